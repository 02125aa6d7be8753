import pytest
import yaml
from small_study import changed, content

from uniemo.errors import UniEmoError
from uniemo.studies.cells import Setting, cells_of
from uniemo.studies.study_files import known_studies, read_study


def hashes(study):
    return [cell.hash for cell in cells_of(study, 0, Setting())]


def test_every_table_and_figure_of_the_paper_is_there():
    assert known_studies()[:8] == [f"table{number}" for number in range(1, 9)]
    assert {*(f"fig{number}" for number in range(5, 11)), "learning_curve"} == set(known_studies()[8:])
    paper = read_study("table4").row("UniEmo SD 1.5").paper
    assert list(paper.values()) == [27.73, 0.793, 79.66, 0.640, 0.0383]
    assert read_study("table1").row("UniEmo ViT-L/14").paper == {"EmoSet": 85.30, "FI": 87.65}


def test_rows_and_columns(study):
    assert [row.name for row in study.rows] == ["Theirs B/32", "Plain", "Ours", "Large"]
    assert [row.group for row in study.rows] == ["Others", "Others", "Ours", "Ours"]
    assert study.column("FID").best == "low"


def test_a_study_uses_another_file(written, tmp_path):
    values = content()
    shared = {key: values.pop(key) for key in ("cells", "parameters")}
    (tmp_path / "shared.yaml").write_text(yaml.safe_dump(shared))
    assert hashes(written({**values, "use": "shared.yaml"})) == hashes(written(content()))
    with pytest.raises(UniEmoError, match="use must name a file beside"):
        written({**values, "use": "nothing.yaml"})


def test_files_of_before_keep_their_key_names(written):
    old = yaml.safe_dump(content(), sort_keys=False).replace("args:", "words:").replace("metrics:", "figures:")
    plot = {"kind": "points", "figure": "Accuracy", "x": "label", "lines": "note"}
    study = written({**yaml.safe_load(old), "plot": plot})
    assert study.plot["metric"] == "Accuracy"
    assert (study.columns, hashes(study)) == (written(content()).columns, hashes(written(content())))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("title", None, "key 'title' is missing"),
        ("rows.2.cell", "plan", "cell of row Plain must be one of plain, first, second; got 'plan'"),
        ("rows.2.paper", {"Acuracy": 1}, "paper and only of row Plain must be one of Accuracy, FID; got 'Acuracy'"),
        ("rows.5.label", "Ours", "rows must differ in label and note; 'Ours' stands there twice"),
        ("rows.2.colour", "red", "unexpected keyword argument 'colour'"),
        ("checks.0.than", "Nothing", "better and than of a check must be one of"),
        ("checks.0.in", "Nothing", "in of a check must be one of Accuracy, FID"),
        ("cells.plain.steps.0.agrs", "--x", "args of fit must be one of miniature, paper, args, quick; got 'agrs'"),
    ],
)
def test_mistakes_are_named(written, path, value, said):
    with pytest.raises(UniEmoError) as error:
        written(changed(path, value))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, r"a study must be one of table1, "), ("a: [", "must be a YAML file"), ("[]", "must hold title, claim")],
)
def test_unknown_studies(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UniEmoError, match=said):
        read_study(str(path))
