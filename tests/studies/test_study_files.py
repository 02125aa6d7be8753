"""How studies are written and read, and what their cells depend on."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from small_study import content

from uniemo.cli import main
from uniemo.configurations import find_configuration
from uniemo.errors import UniEmoError
from uniemo.studies.cells import Setting, cell_of, cells_of, resolve, with_parents
from uniemo.studies.costs import OTHER, SECONDS, gpu_hours, kind, seconds
from uniemo.studies.reading import known_studies
from uniemo.studies.reading import read_study as read_again

read_study = cache(read_again)
MINIATURE, QUICK, PAPER = Setting(), Setting(quick=True), Setting("paper", data=Path("/data"))
STUDIES = [name for name in known_studies() if read_study(name).columns]


def row_cell(name, row, column=None, seed=0, setting=MINIATURE):
    study = read_study(name)
    return cell_of(study, study.row(row), study.column(column) if column else study.columns[0], seed, setting)


def words(cell, number=0):
    return " ".join(cell.commands[number].on_disk(Path("cells"), cell.hash))


def test_every_table_and_figure_of_the_paper_is_there():
    figures = [f"table{number}" for number in range(1, 9)] + ["fig6", "fig7", "fig8"]
    assert set(figures) <= set(known_studies())
    assert known_studies()[:8] == figures[:8]


@pytest.mark.parametrize("name", known_studies())
@pytest.mark.parametrize("setting", [MINIATURE, QUICK, PAPER], ids=["miniature", "quick", "paper"])
def test_every_command_is_complete(name, setting):
    cells = with_parents(cells_of(read_study(name), 0, setting))
    assert cells
    for cell in cells:
        for command in cell.commands:
            text = " ".join(command.on_disk(Path("cells"), cell.hash)).replace("{}", "")
            assert "{" not in text
            assert all(find_configuration(file) for file in command.configurations())
            if setting.scale == "paper" and command.run == "fit" and not cell.parents:
                assert "--data.root /data" in text
        assert seconds(cell, {}) > 0


def test_costs_are_known_for_every_command():
    for name in STUDIES:
        for cell in with_parents(cells_of(read_study(name), 0, MINIATURE)):
            assert {kind(command, cell) for command in cell.commands} <= set(SECONDS)


def test_cells_are_shared_between_studies():
    assert (
        row_cell("table1", "UniEmo, stage 1 ViT-B/32", "EmoSet").hash == row_cell("fig6", "Multi-stage ViT-B/32").hash
    )
    assert row_cell("fig7", "8 ViT-B/32").hash == row_cell("fig8", "Stage 1 ViT-B/32").hash
    assert row_cell("table5", "Cls + Object* + Scene* + L_cond").hash == row_cell("fig8", "Stage 2 ViT-B/32").hash
    full = {row_cell("table4", "UniEmo SD 1.5").hash, row_cell("table6", "Filter by Emo-A and Sem-C").hash}
    full |= {
        row_cell("table7", "20 to 80 %").hash,
        row_cell("table8", "20 %").hash,
        row_cell("table1", "UniEmo ViT-B/32").hash,
    }
    assert len(full) == 1


def test_cells_of_one_table_differ_where_they_should():
    for name in STUDIES:
        study = read_study(name)
        found = [cell_of(study, row, column, 0, PAPER) for row in study.rows for column in study.columns[:1]]
        hashes = [cell.hash for cell in found if cell is not None]
        assert len(set(hashes)) == len(hashes), name


def test_ablations_say_what_they_leave_out():
    assert '--model.fusion.tokens ["cls"]' in words(row_cell("table5", "Cls"))
    assert "gamma_condition 0" in words(row_cell("table5", "Cls + Object* + Scene*"))
    assert "correlation" not in words(row_cell("table5", "Cls + Object* + Scene*"))
    assert "--model.fusion.correlation false" in words(row_cell("table5", "Cls + Object + Scene"))
    assert "--data.proportion 0.3" in words(row_cell("table8", "30 %"))
    kept = next(parent for parent in row_cell("table7", "50 to 80 %").parents if parent.name == "kept")
    assert "--criteria both --low 0.5 --high 0.8" in words(kept)
    assert "--model.encoder.queries none" in words(row_cell("fig6", "No queries ViT-B/32"))


def test_paper_scale_takes_the_papers_recipes():
    text = words(row_cell("table1", "UniEmo ViT-B/16", "EmoSet", setting=PAPER))
    assert text.startswith("fit --config paper/feedback.yaml --data.root /data/EmoSet --config paper/vit_b16.yaml")
    text = words(row_cell("table4", "UniEmo SD XL", setting=PAPER))
    assert "--config paper/vit_l14.yaml --config paper/sdxl.yaml" in text
    stage1 = with_parents([row_cell("table4", "UniEmo SD XL", setting=PAPER)])[0]
    assert "sdxl" not in words(stage1)
    assert "vit_l14" in words(stage1)


def test_figures_of_the_paper_are_those_of_its_text():
    table = read_study("table4").row("UniEmo SD 1.5").paper
    assert list(table.values()) == [27.73, 0.793, 79.66, 0.640, 0.0383]
    assert read_study("table1").row("UniEmo ViT-L/14").paper == {"EmoSet": 85.30, "FI": 87.65}


# The small study.


def test_reading(study):
    assert [row.name for row in study.rows] == ["Theirs B/32", "Plain", "Ours", "Large"]
    assert [row.group for row in study.rows] == ["Others", "Others", "Ours", "Ours"]
    assert study.column("FID").best == "low"
    assert [cell.name for cell in cells_of(study, 0, MINIATURE)] == ["plain", "second"]
    assert len(cells_of(study, 0, PAPER)) == 3


def test_words(study):
    first, second = with_parents(cells_of(study, 3, QUICK))[1:]
    assert words(second) == (
        f"fit --init cells/{first.hash}/fit/best.ckpt --short --run_dir cells/{second.hash}/fit --seed_everything 3 "
        "--trainer.enable_progress_bar false"
    )
    assert words(second, 1).startswith(f"test --ckpt cells/{second.hash}/fit/best.ckpt --accuracy 0.75")
    assert (second.title, first.title) == ("second accuracy=0.75 seed 3", "first seed 3")


def hash_of(study, setting=MINIATURE, seed=0, **parameters):
    return resolve(study, "second", {"accuracy": "0.5", **parameters}, seed, setting).hash


def test_the_hash_follows_what_the_result_depends_on(written):
    values = content()
    before = hash_of(written(values))
    assert hash_of(written(values, "another_name")) == before
    assert hash_of(written(values), accuracy="0.6") != before
    assert hash_of(written(values), seed=1) != before
    assert hash_of(written(values), QUICK) != before
    assert hash_of(written(values), PAPER) == before  # nothing of it differs at paper scale
    values["cells"]["first"]["steps"][0]["words"] = "--another"  # of the parent
    assert hash_of(written(values)) != before


def test_the_hash_follows_configurations_but_not_their_comments(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = content()
    values["cells"]["first"]["steps"][0]["words"] = "--config own.yaml"
    Path("own.yaml").write_text("a: 1\n")
    before = hash_of(written(values))
    Path("own.yaml").write_text("# why\na:   1\n")
    assert hash_of(written(values)) == before
    Path("own.yaml").write_text("a: 2\n")
    assert hash_of(written(values)) != before


def test_choices_stand_for_words_by_scale(study):
    plain = {
        setting: resolve(study, "plain", {"accuracy": "1", "tower": "big"}, 0, setting)
        for setting in (MINIATURE, PAPER)
    }
    assert words(plain[MINIATURE]).startswith("fit --tower mini --run_dir")
    assert words(plain[PAPER]).startswith("fit --tower big --run_dir")
    assert (
        plain[MINIATURE].choices == (("tower", "big"), ("accuracy", "1"))
        or dict(plain[MINIATURE].choices)["tower"] == "big"
    )
    small = resolve(study, "plain", {"accuracy": "1"}, 0, MINIATURE)
    assert dict(small.choices) == {"accuracy": "1"}  # small stands for nothing


def test_a_fixed_seed_is_one_cell_for_all(written):
    values = content()
    values["cells"]["first"]["seed"] = 7
    study = written(values)
    firsts = {with_parents([resolve(study, "second", {"accuracy": "1"}, seed, MINIATURE)])[0] for seed in (0, 1)}
    assert len(firsts) == 1
    assert "--seed_everything 7" in words(firsts.pop())


def changed(path, value):
    """The small study with one thing changed; ``path`` is keys with dots."""
    values = content()
    part = values
    *keys, last = path.split(".")
    for key in keys:
        part = part[int(key) if key.isdigit() else key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return values


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
        ("cells.plain.steps.0.wrds", "--x", "words of fit must be one of miniature, paper, words, quick; got 'wrds'"),
    ],
)
def test_mistakes_are_named(written, path, value, said):
    with pytest.raises(UniEmoError) as error:
        written(changed(path, value))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("rows.2.with", {}, "cell plain must give {accuracy} a value"),
        ("rows.2.with", {"accuracy": 1, "tower": "huge"}, "tower must be one of small, big; got 'huge'"),
        ("cells.first.steps.0.words", "--config nothing.yaml", "'nothing.yaml' is neither"),
        ("cells.first.steps.0.words", "{cell:nothing}", "a cell must be one of plain, first, second; got 'nothing'"),
        ("cells.first.steps.0.words", "{data}", "--scale paper needs the datasets"),
    ],
)
def test_mistakes_in_cells_are_named(written, path, value, said):
    study = written(changed(path, value))
    with pytest.raises(UniEmoError) as error:
        cells_of(study, 0, MINIATURE)
    assert said in str(error.value)


def test_unknown_studies(tmp_path):
    with pytest.raises(UniEmoError, match=r"a study must be one of table1, .*; got 'table9'"):
        read_again("table9")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UniEmoError, match="must be a YAML file"):
        read_again(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("[]")
    with pytest.raises(UniEmoError, match="must hold title, claim"):
        read_again(str(tmp_path / "list.yaml"))


def test_a_study_uses_another_file(written, tmp_path):
    values = content()
    shared = {key: values.pop(key) for key in ("cells", "parameters")}
    (tmp_path / "shared.yaml").write_text(yaml.safe_dump(shared))
    assert hash_of(written({**values, "use": "shared.yaml"})) == hash_of(written(content()))
    with pytest.raises(UniEmoError, match="use must name a file beside"):
        written({**values, "use": "nothing.yaml"})


# What cells cost.


def test_times_of_before_are_expected_again(study):
    cell = resolve(study, "plain", {"accuracy": "1"}, 0, MINIATURE)
    assert seconds(cell, {}) == OTHER[0] + SECONDS["test"][0]
    record = {"name": "plain", "scale": "miniature", "quick": False, "choices": {}}
    others = {
        "a": {**record, "seconds": 10.0},
        "b": {**record, "seconds": 20.0},
        "c": {**record, "quick": True, "seconds": 1.0},
    }
    assert seconds(cell, others) == 15.0
    assert seconds(cell, {**others, cell.hash: {**record, "seconds": 3.0}}) == 3.0


def test_gpu_hours_are_the_stated_arithmetic():
    cell = row_cell("fig6", "Multi-stage ViT-L/14", setting=PAPER)
    assert gpu_hours(cell) == pytest.approx((94_481 * 15 * 3 + 17_716) * 0.162 / 60 / 3600)
    joint = row_cell("table5", "Cls", setting=PAPER)
    expected = 94_481 * 10 * (2 * 0.70 + 1.1 + 3 * 0.162) + 8_000 * 50 * 2 * 0.70 + 17_716 * 0.162
    assert gpu_hours(joint) == pytest.approx(expected / 60 / 3600)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("setting", [MINIATURE, QUICK, PAPER], ids=["miniature", "quick", "paper"])
def test_every_training_is_understood_by_the_command_line(setting, capsys):
    """A minute; run on demand."""
    known = set()
    for name in known_studies():
        for cell in with_parents(cells_of(read_study(name), 0, setting)):
            fits = (command for command in cell.commands if command.run == "fit")
            known |= {tuple(re.sub(r"cells/\w+", "cells/x", " ".join(words_of(fit, cell))).split(" ")) for fit in fits}
    for given in sorted(known):
        code = main([*given, "--print_config"])
        assert code == 0, (given, capsys.readouterr().err)
        capsys.readouterr()


def words_of(command, cell):
    return command.on_disk(Path("cells"), cell.hash)
