"""``uniemo data`` and ``uniemo cross-validate``, as a user meets them."""

import json
from pathlib import Path

import pytest

import uniemo.cli.cross_validate as command
from tests.tiny_runs import assets
from tests.trees import painted_tree
from uniemo.cli import COMMANDS, main
from uniemo.cli.cross_validate import summarise, table
from uniemo.cli.data import TOOLS
from uniemo.data.generated import read_index

pytestmark = pytest.mark.usefixtures("empty_folder")

ROOTS = {"fi": "fi-zip", "twitter": "twitter2-csv", "folds": "twitter1-folds", "roi": "emotionroi"}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Painted trees by short name; tests do not write into them."""
    folder = tmp_path_factory.mktemp("roots")
    return {key: painted_tree(name, folder / key, 48, size=32) for key, name in ROOTS.items()}


def refused(capsys, args, expected):
    """Whether a command ends with one line of error that says something."""
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error


# Dispatch.


def test_help(capsys):
    assert main(["data"]) == 0
    text = capsys.readouterr().out
    assert all(tool in text for tool in TOOLS)
    assert "cross-validate" in COMMANDS


@pytest.mark.parametrize("tool", TOOLS)
def test_help_of_each_tool(capsys, tool):
    assert main(["data", tool, "--help"]) == 0
    assert f"usage: uniemo data {tool}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["data", "chekc"], "did you mean check"),
        (["data", "check"], "ROOT"),
        (["data", "check", "nowhere"], "existing folder"),
        (["data", "check", ".", "--output", "."], "--output must be a file"),
        (["data", "check", ".", "--workres", "2"], "did you mean --workers"),
        (["data", "check", ".", "--workers", "0"], "at least 1"),
        (["data", "split", "nowhere", "--out", "x.json"], "existing folder"),
        (["data", "split", "."], "--out"),
    ],
)
def test_bad_arguments(capsys, args, expected):
    refused(capsys, args, expected)


# data check.


def test_check_clean_tree(capsys, roots):
    assert main(["data", "check", str(roots["fi"]), "--output", "out/report.json"]) == 0
    text = capsys.readouterr().out
    assert "FI, layout fi-zip" in text
    assert "clean: nothing that would stop or spoil training" in text
    assert json.loads(Path("out/report.json").read_text())["clean"] is True


def test_check_faulty_tree(capsys, tmp_path):
    root = painted_tree("fi-zip", tmp_path / "tree", 48, size=32, faults=("truncated", "cmyk"))
    assert main(["data", "check", str(root), "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert "not clean: truncated images would stop training" in captured.out
    assert "checking" not in captured.err  # no terminal, no progress bar
    assert main(["data", "check", str(root), "--layout", "emoset"]) == 2
    assert not list(tmp_path.glob("*.json"))


# data split.


def test_split_is_written_and_read_again(capsys, roots):
    for name in ("a.json", "b.json"):
        assert main(["data", "split", str(roots["fi"]), "--out", name, "--seed", "3"]) == 0
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()
    assert main(["data", "split", str(roots["fi"]), "--out", "c.json", "--seed", "4"]) == 0
    splits = [json.loads(Path(name).read_text())["splits"] for name in ("a.json", "c.json")]
    assert splits[0] != splits[1]
    assert sum(map(len, splits[0].values())) == 48
    assert {name.split("/")[-2] for name in splits[0]["val"]} == {name.split("/")[-2] for name in splits[0]["train"]}
    capsys.readouterr()
    assert main(["data", "check", str(roots["fi"]), "--split-file", "a.json"]) == 0
    assert "splits of the split file" in capsys.readouterr().out


def test_split_fractions(roots):
    args = ["data", "split", str(roots["fi"]), "--out", "x.json", "--fractions"]
    assert main([*args, "0.5", "0.25", "0.25"]) == 0
    assert json.loads(Path("x.json").read_text())["counts"] == {"train": 16, "val": 16, "test": 16}


def test_split_is_what_training_takes(roots):
    from uniemo.data import FI, EmotionROI, TwitterII

    for kind, key in ((FI, "fi"), (EmotionROI, "roi"), (TwitterII, "twitter")):
        data = kind(str(roots[key]), image_size=32, diffusion_size=None, seed=2)
        args = ["data", "split", str(roots[key]), "--out", "x.json", "--seed", "2"]
        out = Path("x.json")
        if key == "twitter":
            args += ["--folds", "5"]
            out = Path("x.fold1.json")
        assert main(args) == 0
        splits = json.loads(out.read_text())["splits"]
        for split in ("train", "val", "test"):
            assert sorted(data.records(split).names()) == splits[split], (kind, split)


def test_folds(capsys, roots):
    assert main(["data", "split", str(roots["twitter"]), "--out", "x.json", "--folds", "3"]) == 0
    parts = [json.loads(Path(f"x.fold{fold}.json").read_text()) for fold in (1, 2, 3)]
    tests = [set(part["splits"]["test"]) for part in parts]
    assert sum(map(len, tests)) == len(set.union(*tests)) == 48
    assert [part["fold"] for part in parts] == [1, 2, 3]
    assert capsys.readouterr().out.count("seed 0") == 3
    assert not Path("x.json").exists()


def test_given_splits_are_kept_unless_fresh(capsys, roots):
    root = str(roots["roi"])
    assert main(["data", "split", root, "--out", "given.json"]) == 0
    given = json.loads(Path("given.json").read_text())
    listed = (roots["roi"] / "training_testing_split/testing.txt").read_text().split()
    assert given["splits"]["test"] == sorted(f"images/{name}" for name in listed)
    refused(capsys, ["data", "split", root, "--out", "x.json", "--fractions", "0.8", "0.1", "0.1"], "--fresh")
    assert main(["data", "split", root, "--out", "x.json", "--fresh", "--fractions", "0.8", "0.1", "0.1"]) == 0
    assert json.loads(Path("x.json").read_text())["splits"]["test"] != given["splits"]["test"]
    refused(
        capsys, ["data", "split", root, "--out", "x.json", "--folds", "2", "--fractions", "1", "0", "0"], "together"
    )


def test_copies_stay_on_one_side(tmp_path, capsys):
    root = painted_tree("fi-zip", tmp_path / "tree", 48, size=32, faults=("duplicate_across_splits",))
    assert main(["data", "split", str(root), "--out", "x.json"]) == 0
    assert "1 pictures stand there more than once" in capsys.readouterr().out
    content = json.loads(Path("x.json").read_text())
    (group,) = content["duplicates"]
    assert any(set(group) <= set(names) for names in content["splits"].values())


# cross-validate.


@pytest.fixture
def in_process(monkeypatch):
    """Run the folds' commands in this process, which has everything imported; returns the args of each."""
    seen = []

    def run(args):
        seen.append(args)
        return main(args)

    monkeypatch.setattr(command, "run_command", run)
    return seen


def args_for(root, *more):
    data = ["--data", "uniemo.data.TwitterII", "--data.root", str(root), "--data.image_size", "32"]
    return ["cross-validate", "--config", "understanding.yaml", "--config", str(assets() / "stage1.yaml"), *data, *more]


def test_cross_validation(roots, capsys, in_process):
    args = args_for(roots["twitter"], "--folds", "2", "--data.batch_size=8")
    assert main(args) == 0
    text = capsys.readouterr().out
    assert [run[0] for run in in_process] == ["fit", "test", "fit", "test"]
    assert "--data.fold=2" in in_process[2]
    assert "--data.batch_size=8" in in_process[2]
    names = {path.name for path in Path("runs/cv").iterdir()}
    assert names == {"fold1", "fold2", "cross_validate.json", "results.json"}
    results = json.loads(Path("runs/cv/results.json").read_text())
    values = [fold["figures"]["test/accuracy"] for fold in results["by_fold"]]
    mean = sum(values) / 2
    assert results["figures"]["test/accuracy"]["mean"] == pytest.approx(mean)
    assert results["figures"]["test/accuracy"]["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert f"{mean:.4f} ± " in text
    tested = [json.loads(Path(f"runs/cv/fold{k}/split.json").read_text())["splits"]["test"] for k in (1, 2)]
    assert not set(tested[0]) & set(tested[1])
    assert len(tested[0]) + len(tested[1]) == 48

    # Finished folds are not run again, a missing test is.
    in_process.clear()
    assert main(args) == 0
    assert in_process == []
    Path("runs/cv/fold2/test.json").unlink()
    assert main(args) == 0
    assert [run[0] for run in in_process] == ["test"]
    assert json.loads(Path("runs/cv/results.json").read_text()) == results

    # A fold that was killed between its last checkpoint and our note of it goes on from there.
    in_process.clear()
    Path("runs/cv/fold2/test.json").unlink()
    state = json.loads(Path("runs/cv/cross_validate.json").read_text())
    Path("runs/cv/cross_validate.json").write_text(json.dumps({**state, "fitted": [1]}))
    assert main(args) == 0
    assert [run[0] for run in in_process] == ["fit", "test"]
    assert "--resume=true" in in_process[0]
    assert json.loads(Path("runs/cv/results.json").read_text()) == results

    # Other options do not mix with it.
    refused(capsys, [*args, "--data.seed", "1"], "other words")


def test_a_fold_that_stopped_goes_on(roots, monkeypatch):
    """The arguments of the commands only: nothing is trained."""
    seen = []

    def run(args):
        seen.append(args)
        if args[0] == "test":
            Path(args[-1]).with_name("test.json").write_text(json.dumps({"test/accuracy": len(seen) / 10}))
            return 0
        folder = Path(next(word.partition("=")[2] for word in args if word.startswith("--run_dir=")))
        folder.mkdir(parents=True, exist_ok=True)
        stops = len(seen) == 1
        (folder / ("last.ckpt" if stops else "best.ckpt")).write_text("")
        return 130 if stops else 0

    monkeypatch.setattr(command, "run_command", run)
    monkeypatch.setattr(command, "check_folds", lambda job: None)
    args = args_for(roots["twitter"], "--folds", "2", "--run_dir", "cv")
    assert main(args) == 130
    assert main(args) == 0
    assert [run[0] for run in seen] == ["fit", "fit", "test", "fit", "test"]
    assert "--resume=true" in seen[1]
    assert "--resume=true" not in seen[3]
    assert main([*args, "--overwrite"]) == 0
    assert [run[0] for run in seen[5:]] == ["fit", "test", "fit", "test"]
    assert not any("--resume=true" in run for run in seen[5:])


BAD_CROSS = {
    "no recipe": (["cross-validate"], "recipe"),
    "no such configuration": (["cross-validate", "--config", "understandin.yaml"], "did you mean understanding.yaml"),
    "fold given": (["cross-validate", "--data.fold", "2"], "every fold is run"),
    "one fold": (["cross-validate", "--folds", "1"], "at least 2"),
    "no such root": (args_for("nowhere"), "nowhere"),
    "unknown key": (lambda roots: args_for(roots["twitter"], "--data.rot", "x"), "data.root"),
    "too many folds": (lambda roots: args_for(roots["folds"], "--data", "uniemo.data.TwitterI", "--folds", "7"), "5"),
    "other image size": (lambda roots: args_for(roots["twitter"], "--data.image_size", "48"), "must be 32"),
    "folder taken": (lambda roots: args_for(roots["twitter"], "--run_dir", str(roots["fi"])), "--run_dir"),
}


@pytest.mark.parametrize("case", BAD_CROSS)
def test_bad_cross_validation(capsys, tmp_path, roots, in_process, case):
    args, expected = BAD_CROSS[case]
    refused(capsys, args(roots) if callable(args) else args, expected)
    assert in_process == []
    assert list(tmp_path.iterdir()) == []


def test_summary_over_folds():
    folds = [{"test/accuracy": 0.5, "test/balanced_accuracy": 0.4, "x": 1.0}, {"test/accuracy": 0.7, "x": None}]
    assert summarise(folds) == {"test/accuracy": {"mean": 0.6, "std": pytest.approx(0.2 / 2**0.5)}}
    folds = [{"test/accuracy": value, "test/balanced_accuracy": 0.25} for value in (0.5, 0.75)]
    lines = table(folds, summarise(folds)).splitlines()
    assert lines[0].split() == ["fold", "accuracy", "balanced", "accuracy"]
    assert lines[-2].split() == ["mean", "0.6250", "±", "0.1768", "0.2500", "±", "0.0000"]


def test_commands_run_in_a_process_of_their_own(capfd):
    assert command.run_command(["--version"]) == 0
    assert capfd.readouterr().out.startswith("uniemo ")
    assert command.run_command(["no-such-command"]) == 2


def test_painted_images_can_stand_for_generated_ones(tmp_path, capsys):
    args = ["data", "synthesize", "--train", "16", "--val", "8", "--test", "8", "--size", "32", "--index"]
    assert main([*args, "--out", str(tmp_path / "tree")]) == 0
    rows = read_index(tmp_path / "tree")
    assert len(rows) == 16
    assert all((tmp_path / "tree" / row["file"]).parent.name == row["emotion"] for row in rows)
    assert main([*args, "--out", str(tmp_path / "other"), "--layout", "fi-splits"]) == 2
    assert "--train must go with --layout emoset" in capsys.readouterr().err
