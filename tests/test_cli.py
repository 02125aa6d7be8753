"""The command line, as a user meets it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_runs import assets, recipe, trained
from uniemo import __version__
from uniemo.cli import COMMANDS, main
from uniemo.cli.classify import Emotions, table
from uniemo.data import images
from uniemo.data.generated import read_index
from uniemo.data.images import load_images
from uniemo.metrics import classifier_training, emotion_classifiers
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.modules import EmotionModule
from uniemo.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("empty_folder")
POINT = ("--valence", "6", "--arousal", "3")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A folder that ``uniemo generate`` wrote."""
    out = tmp_path_factory.mktemp("images") / "out"
    args = ["generate", "--ckpt", joint(), "--emotion", "all", "--num", "5"]
    assert main([*args, "--steps", "2", "--out", str(out)]) == 0
    return out


def joint():
    return str(trained("joint") / "best.ckpt")


def stage1():
    return str(trained("understanding") / "best.ckpt")


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    assert "joint.yaml" in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"uniemo {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(capsys, command):
    assert main([command, "--help"]) == 0
    assert len(capsys.readouterr().out) > 150


def test_help_is_quick():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "uniemo", "--help"], check=True, capture_output=True, env=environment)
    assert time.perf_counter() - start < 3  # well under 1 s on an idle machine


def test_fit_leaves_a_run_folder():
    names = {path.name for path in trained("joint").iterdir()}
    assert {"best.ckpt", "last.ckpt", "config.yaml", "images"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.startswith("version_") or name == "checkpoints" for name in names)


def test_default_run_folder(tmp_path, capsys):
    """The paper's literal rates stack on any recipe of their stage; the fit begins with their note."""
    literal = ["--config", "paper/literal/understanding.yaml", "--trainer.limit_train_batches", "1"]
    assert main([*recipe("understanding"), *literal]) == 0
    assert (tmp_path / "runs/understanding/best.ckpt").is_file()
    out = capsys.readouterr().out
    assert out.count("note: ") == 1
    assert 0 < out.index("note: ") < out.index("end of fit")
    assert main(["validate", "--ckpt", "runs/understanding/best.ckpt"]) == 0
    assert "note: " not in capsys.readouterr().out


def test_test_needs_only_the_checkpoint(capsys):
    assert main(["test", "--ckpt", stage1()]) == 0
    assert "test/accuracy" in capsys.readouterr().out
    assert (trained("understanding") / "test.json").is_file()


def test_validate_and_predict(tmp_path, capsys):
    assert main(["validate", "--ckpt", joint(), "--run_dir", "run", "--generation_metrics.val_images", "0"]) == 0
    assert "val/accuracy" in capsys.readouterr().out
    assert main(["predict", "--ckpt", joint(), "--run_dir", "run"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 32
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_predict_that_is_stopped_keeps_what_it_has(monkeypatch, capsys):
    args = ["predict", "--ckpt", stage1(), "--run_dir", "run", "--data.eval_batch_size", "8"]
    with monkeypatch.context() as patch:
        step, calls = EmotionModule.predict_step, []

        def stopping(self, batch, batch_idx):
            calls.append(batch_idx)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return step(self, batch, batch_idx)

        patch.setattr(EmotionModule, "predict_step", stopping)
        assert main(args) == 130
    partial = Path("run/predictions.jsonl.partial")
    assert f"what is predicted so far is in {partial}" in capsys.readouterr().err
    lines = partial.read_text().splitlines()
    assert len(lines) == 8
    assert main(args) == 0
    assert Path("run/predictions.jsonl").read_text().splitlines()[: len(lines)] == lines
    assert not partial.exists()


def test_predict_of_an_image_that_cannot_be_read(capsys):
    shutil.copytree(assets() / "tree", "tree")
    image = json.loads(Path("tree/test.json").read_text())[3][1]
    Path("tree", image).write_bytes(Path("tree", image).read_bytes()[:-80])
    args = ["predict", "--ckpt", stage1(), "--data.root", "tree"]
    capsys.readouterr()
    assert main([*args, "--run_dir", "early"]) == 2
    assert f"1 of 32 in test are not, first tree/{image}" in capsys.readouterr().err  # before any work
    args += ["--data.check", "false"]
    assert main([*args, "--run_dir", "run"]) == 2
    assert f"1 of 32 are not, first {image}" in capsys.readouterr().err
    rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows if "error" in row] == [image]
    assert len(rows) == 32
    assert main([*args, "--run_dir", "skip", "--data.on_error", "skip"]) == 0
    assert Path("skip/predictions.jsonl").read_bytes() == Path("run/predictions.jsonl").read_bytes()


def test_resume(capsys):
    folder = trained("understanding")
    copy = Path("copy")
    shutil.copytree(folder, copy)
    assert main(["fit", "--ckpt_path", "copy/last.ckpt", "--run_dir", "copy", "--trainer.max_epochs", "2"]) == 0
    assert "2 epochs, 6 steps" in capsys.readouterr().out
    args = ["--run_dir", "copy", "--trainer.max_epochs", "3", "--ckpt_path", "last"]
    assert main([*recipe("understanding"), *args]) == 0
    assert "3 epochs, 9 steps" in capsys.readouterr().out


def test_generate(generated):
    rows = read_index(generated)
    assert len(rows) == 40
    assert {path.name for path in generated.iterdir()} == {row["emotion"] for row in rows} | {"index.jsonl", "grid.png"}
    first = rows[0]
    assert first["space"] == "mixture"
    assert first["nearest"] > 0
    assert first["weights"] == {"amusement": 1.0}
    assert first["steps"] == 2
    assert len(first["checkpoint"]) == 12
    assert Image.open(generated / first["file"]).size == (32, 32)


def test_same_seed_same_image_in_any_batch(generated):
    args = ["generate", "--ckpt", joint(), "--emotion", "awe", "--num", "3", "--steps", "2", "--seed", "1"]
    assert main([*args, "--batch_size", "2", "--out", "again"]) == 0
    again = Image.open("again/awe/00000.png")
    before = Image.open(generated / "awe/00001.png")
    difference = max(abs(a - b) for a, b in zip(again.tobytes(), before.tobytes(), strict=True))
    assert difference <= 1  # another batch size may round the last bit otherwise


def test_mixture_in_a_prompt(tmp_path, capsys):
    args = ["generate", "--ckpt", joint(), "--emotion", "awe=0.7", "--emotion", "Fear=0.3", "--prompt", "a {} room"]
    assert main([*args, "--num", "2", "--steps", "1", "--space", "gaussian", "--out", "mix"]) == 0
    assert "features sampled as gaussian: median distance to the nearest training image" in capsys.readouterr().out
    rows = read_index("mix")
    assert rows[0]["weights"] == {"awe": 0.7, "fear": 0.3}
    assert rows[0]["space"] == "gaussian"
    assert rows[0]["nearest"] > 0
    assert rows[0]["prompt"] == "a {} room"
    assert (tmp_path / "mix/awe+fear/00001.png").is_file()


def test_prompts_of_a_file_and_their_clip_score(tmp_path):
    """Images of several prompts in one folder; evaluate measures whether their content is there."""
    Path("prompts.txt").write_text("\ufeffa {} room\n\n  a {} photo \n", encoding="utf-8")
    args = ["generate", "--ckpt", joint(), "--emotion", "awe", "--emotion", "fear", "--steps", "1"]
    assert main([*args, "--prompts", "prompts.txt", "--num", "2", "--out", "asked", "--batch_size", "3"]) == 0
    rows = read_index("asked")
    assert [row["prompt"] for row in rows] == ["a {} room"] * 2 + ["a {} photo"] * 2
    assert [row["seed"] for row in rows] == [0, 1, 2, 3]
    assert main([*args, "--prompt", "a {} photo", "--num", "1", "--seed", "3", "--out", "one"]) == 0
    one, several = (
        np.asarray(Image.open(name)).astype(int) for name in ("one/awe+fear/00000.png", "asked/awe+fear/00003.png")
    )
    assert np.abs(one - several).max() <= 1  # by its own prompt

    sets = ["--generated", "asked", "--real", str(assets() / "tree"), "--classifier", "none", "--fid", "none"]
    more = ["--clip", str(assets() / "clip"), "--networks", "miniature", "--output", "result.json"]
    assert main(["evaluate", *sets, *more]) == 0
    score = json.loads(Path("result.json").read_text())["protocols"]["strict"]["figures"]["CLIPScore"]
    clip = FrozenClip(str(assets() / "clip"))
    features = clip.features(load_images([f"asked/{row['file']}" for row in rows]))
    cosines = torch.cosine_similarity(features, clip.text(["a room", "a room", "a photo", "a photo"]))
    assert score["value"] == pytest.approx(float(100 * cosines.clamp(min=0).mean()), rel=1e-5)
    assert score["low"] <= score["value"] <= score["high"]
    assert score["networks"] == [f"clip {clip.hash}"]


def test_classify(tmp_path, capsys, generated):
    photo = next((assets() / "tree/image/awe").iterdir())
    args = ["classify", "--ckpt", stage1(), str(photo), str(generated)]
    assert main([*args, "--output", "x/out.jsonl", "--batch_size", "7"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "x/out.jsonl").read_text().splitlines()]
    assert len(rows) == 1 + 40 + 1  # the grid too
    assert rows[0]["file"] == str(photo)
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert capsys.readouterr().out.splitlines()[0].split() == ["photo", "emotion", "%", "then", "%"]


def test_generate_at_a_point(tmp_path, capsys):
    args = ["generate", "--ckpt", joint(), *POINT, "--num", "2", "--steps", "1"]
    assert main([*args, "--out", "words"]) == 0
    assert "valence 6 and arousal 3 on a scale of 1 to 9: amusement 0.14, awe 0.59" in capsys.readouterr().out
    rows = read_index("words")
    assert rows[0]["affect"] == {"valence": 6, "arousal": 3, "scale": [1, 9]}
    assert max(rows[0]["weights"], key=rows[0]["weights"].get) == "awe"
    assert main([*args, "--scale", "1", "17", "--spread", "0.02", "--out", "low"]) == 0
    assert read_index("low")[0]["weights"] == {"sadness": 1.0}
    emotions = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")
    places = {name: [6, 3] if name == "fear" else [1, 1] for name in emotions}
    (tmp_path / "places.json").write_text(json.dumps({"scale": [0, 6], "places": places}))
    assert main([*args, "--places", "places.json", "--out", "own"]) == 0
    assert read_index("own")[0]["weights"] == {"fear": 1.0}
    assert {row["emotion"] for row in read_index("own")} == {"fear"}


@pytest.mark.parametrize("affect", [None, [2.346, 4.0]])
def test_table(affect):
    results = [Emotions([0.2, 0.7, 0.1], affect), Emotions([0.5, 0.1, 0.4], affect)]
    vocabulary = Vocabulary(("awe", "fear", "anger"), affect=None if affect is None else (1, 7))
    head, rows = table(["a.png", "b" * 100], results, vocabulary)
    lines = [head, *(line for _, line in rows)]
    assert lines[1].split() == ["a.png", "fear", "70.0", "awe", "20.0", *([] if affect is None else ["2.35", "4.00"])]
    assert head.endswith("%" if affect is None else "valence [1, 7]  arousal [1, 7]")
    assert len({len(line) for line in lines}) == 1


def test_filter(tmp_path, capsys, generated):
    shutil.copytree(generated, "out")
    assert main(["filter", "--generated", "out", "--ckpt", joint(), "--out", "kept"]) == 0
    kept = read_index("kept")
    assert all((tmp_path / "kept" / row["file"]).is_file() for row in kept)
    text = capsys.readouterr().out
    assert f"kept {len(kept)} of 40 images" in text
    root, clip = str(assets() / "tree"), str(assets() / "clip")
    args = ["filter", "--generated", "out", "--data.root", root, "--clip", clip, "--scope", "global"]
    assert main([*args, "--criteria", "sem_c", "--num", "8", "--out", "eight"]) == 0
    assert len(read_index("eight")) == 8


def test_a_broken_image_is_found_before_filter_and_evaluate_begin(capsys, generated, monkeypatch):
    shutil.copytree(generated, "out")
    Path("out/awe/00001.png").write_bytes(Path("out/awe/00001.png").read_bytes()[:-90])
    Path("out/fear/00002.png").unlink()
    for module in (classifier_training, emotion_classifiers):  # who imports it under the patch would keep it
        monkeypatch.setattr(module, "emotion_classifier", lambda *args, **options: pytest.fail("work has begun"))
    capsys.readouterr()
    assert main(["filter", "--generated", "out", "--ckpt", joint(), "--out", "kept"]) == 2
    error = capsys.readouterr().err
    assert "2 of 40 cannot, first out/awe/00001.png (" in error
    assert error.count("\n") == 1
    shutil.copy("out/awe/00000.png", "out/fear/00002.png")
    for sets in (("--generated", "out", "--real", str(generated)), ("--generated", str(generated), "--real", "out")):
        assert main(["evaluate", *sets, "--output", "result.json"]) == 2
        assert "1 of 40 are not, first out/awe/00001.png (" in capsys.readouterr().err
    sets = ("--generated", str(generated), "--real", str(generated), "--train", "out")
    assert main(["evaluate", *sets, "--output", "result.json"]) == 2
    assert "--train must name images that can be read; 1 of 40 cannot" in capsys.readouterr().err
    assert not Path("result.json").exists()


def test_a_broken_generated_image_stops_feedback_before_its_first_step(capsys, generated):
    shutil.copytree(generated, "out")
    Path("out/awe/00001.png").write_bytes(b"no picture")
    args = [*recipe("feedback"), "--model.init_from", joint(), "--data.generated", "out", "--run_dir", "run"]
    capsys.readouterr()
    assert main(args) == 2
    assert "1 of 40 cannot, first out/awe/00001.png (no picture of a known kind)" in capsys.readouterr().err
    assert not Path("run").exists()


def fit(*args):
    return [*recipe("joint"), *args]


def generate(*args, ckpt=None, out="out"):
    return ["generate", "--ckpt", ckpt or joint(), "--out", out, *args]


def filled():
    Path("full").mkdir()
    Path("full/file").write_text("mine")


def broken_backbone():
    shutil.copytree(assets() / "diffusion", "broken")
    next(Path("broken/vae").glob("*.safetensors")).unlink()


def broken_clip():
    shutil.copytree(assets() / "clip", "broken")
    Path("broken/open_clip_model.safetensors").unlink()


def no_checkpoint():
    Path("x.ckpt").write_text("hello")


def in_file(text, expected):
    """A case whose mistake stands in a configuration file."""
    return lambda: Path("mine.yaml").write_text(text), lambda: fit("--config", "mine.yaml"), expected


def bad_fit(expected, *args):
    """A case whose mistake stands in an option of fit."""
    return None, lambda: fit(*args), expected


BAD = {
    "no such command": (None, lambda: ["fti"], "did you mean fit"),
    "missing data root": bad_fit("nowhere", "--data.root", "nowhere"),
    "empty data root": (lambda: Path("none").mkdir(), lambda: fit("--data.root", "none"), "empty"),
    "unknown emotion": (None, lambda: generate("--emotion", "aw"), "did you mean awe"),
    "no emotion and no point": (None, lambda: generate(), "--valence with --arousal"),
    "valence alone": (None, lambda: generate("--valence", "6"), "got --valence alone"),
    "emotion and point": (None, lambda: generate("--emotion", "awe", *POINT), "exclude each other"),
    "off the scale": (None, lambda: generate("--valence", "6", "--arousal", "12"), "its scale, 1 to 9; got 12"),
    "no places": (None, lambda: generate(*POINT, "--places", "none.json"), "none.json"),
    "no positive sum": (None, lambda: generate("--emotion", "awe=0"), "positive sum"),
    "weight is no number": (None, lambda: generate("--emotion", "awe=much"), "awe=0.7"),
    "no placeholder": (None, lambda: generate("--emotion", "awe", "--prompt", "a room"), "{}"),
    "no file of prompts": (None, lambda: generate("--emotion", "awe", "--prompts", "p.txt"), "p.txt"),
    "a prompt without a place": (
        lambda: Path("p.txt").write_text("a {} room\na room\n"),
        lambda: generate("--emotion", "awe", "--prompts", "p.txt"),
        "--prompts p.txt, line 2, must hold {}",
    ),
    "a prompt twice": (
        lambda: Path("p.txt").write_text("a {} room\n\na {} room"),
        lambda: generate("--emotion", "awe", "--prompts", "p.txt"),
        "in lines 1 and 3",
    ),
    "no prompts": (
        lambda: Path("p.txt").write_text("\n"),
        lambda: generate("--emotion", "awe", "--prompts", "p.txt"),
        "p.txt holds none",
    ),
    "placeholder cut off": (None, lambda: generate("--emotion", "awe", "--prompt", "a room " * 9 + "{}"), "{}"),
    "wrong scheduler": (None, lambda: generate("--emotion", "awe", "--scheduler", "DDIMSchedule"), "DDIMScheduler"),
    "no images": (None, lambda: generate("--emotion", "awe", "--num", "0"), "at least 1"),
    "wrong stage": (None, lambda: generate("--emotion", "awe", ckpt=stage1()), "stage joint or feedback"),
    "no checkpoint": (no_checkpoint, lambda: generate("--emotion", "awe", ckpt="x.ckpt"), "x.ckpt"),
    "no checkpoint to test": (no_checkpoint, lambda: ["test", "--ckpt", "x.ckpt"], "x.ckpt"),
    "missing checkpoint": (None, lambda: ["test", "--ckpt", "y.ckpt"], "y.ckpt"),
    "test without checkpoint": (None, lambda: ["test", "--config", "joint.yaml"], "--ckpt"),
    "wrong stage to test": (None, lambda: ["test", "--config", "joint.yaml", "--ckpt", stage1()], "stage"),
    "wrong stage to start from": (
        None,
        lambda: [*recipe("feedback"), "--model.init_from", stage1()],
        "stage joint or feedback",
    ),
    "unknown key": bad_fit("model.encoder.query_length", "--model.encoder.query_lenght", "3"),
    "unknown data key": bad_fit("data.root", "--data.rot", "3"),
    "unknown trainer key": bad_fit("trainer.max_epochs", "--trainer.max_epoch", "3"),
    "unknown callback key": bad_fit("generation_metrics.steps", "--generation_metrics.step", "3"),
    "unknown key in a file": in_file("model: {init_args: {fusion: {hiden: 3}}}", "model.fusion.hidden"),
    "unknown section in a file": in_file("generation_metric: {steps: 3}", "generation_metrics"),
    "empty unknown section": in_file("model: {encodr: {}}", "did you mean model.encoder?"),
    "empty section": in_file("data:\n  init_args:\n", "data must be a section of keys"),
    "no section": in_file("trainer: 3", "trainer must be a section of keys; got 3"),
    "no section of the model": in_file(
        "model: {init_args: {encoder: 3}}", "model.encoder must be a section of keys; got 3"
    ),
    "no section by option": bad_fit("encoder must be a section of keys; got 3", "--model.encoder", "3"),
    "list for a section": bad_fit("encoder must be a section of keys; got []", "--model.encoder", "[]"),
    "no class": bad_fit("model must be the import path of a class or null; got 3", "--model", "3"),
    "file is no YAML": in_file("model: [1,", "mine.yaml"),
    "unknown class": bad_fit("uniemo.modules.JointModule", "--model", "uniemo.modules.JointModul"),
    "wrong value": bad_fit(
        "model.encoder.query_length must be a whole number; got many", "--model.encoder.query_length", "many"
    ),
    "wrong value of what may be null": bad_fit(
        "model.head.hidden must be a whole number or null; got None", "--model.head.hidden", "None"
    ),
    "wrong choice": bad_fit(
        "model.encoder.queries must be multi_stage or single_step or none or class_token; got some",
        "--model.encoder.queries",
        "some",
    ),
    "wrong trainer value": bad_fit("--trainer.devices must be", "--trainer.devices", "x"),
    "wrong mode": bad_fit("best_checkpoint.mode must be max or min", "--best_checkpoint.mode", "maxi"),
    "value out of range": bad_fit("tau", "--model.loss.tau", "0"),
    "unknown option": (None, lambda: ["classify", "--ckpt", "x", "--outptu", "y", "z"], "--output"),
    "unknown configuration": (None, lambda: ["fit", "--config", "jiont.yaml"], "did you mean joint.yaml"),
    "no configuration": (None, lambda: ["fit"], "--config"),
    "backbone with a file missing": (broken_backbone, lambda: fit("--model.diffusion.path", "broken"), "vae"),
    "clip with a file missing": (broken_clip, lambda: fit("--model.encoder.clip", "broken"), "weights"),
    "clip of another size": bad_fit("data.image_size must be 32", "--data.image_size", "64"),
    "output folder not empty": (filled, lambda: generate("--emotion", "awe", out="full"), "full"),
    "run folder not empty": (filled, lambda: fit("--run_dir", "full"), "--overwrite"),
    "nothing to resume": bad_fit("last.ckpt", "--resume"),
    "no photo": (None, lambda: ["classify", "--ckpt", joint(), "gone.jpg"], "gone.jpg"),
    "no photos": (lambda: Path("none").mkdir(), lambda: ["classify", "--ckpt", joint(), "none"], "none"),
    "no device": (None, lambda: generate("--emotion", "awe", "--device", "gpu9"), "gpu9"),
    "untrained feedback": (None, lambda: [*recipe("feedback"), "--explicit_feedback.start_epoch", "0"], "init_from"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(tmp_path, capsys, case):
    prepare, args, expected = BAD[case]
    if prepare is not None:
        prepare()
    args = args()  # trains what it needs
    capsys.readouterr()
    before = sorted(path for path in tmp_path.rglob("*"))
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--num", "39"], "in the band"),
        (["--num", "20"], "in the band"),
        (["--low", "0.8", "--high", "0.2"], "low"),
        (["--out", "full"], "full"),
        (["--criteria", "emo"], "emo_a"),
    ],
)
def test_bad_filter(tmp_path, capsys, generated, args, expected):
    filled()
    shutil.copytree(generated, "out")
    out = [] if "--out" in args else ["--out", "kept"]
    assert main(["filter", "--generated", "out", "--ckpt", joint(), *out, *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "kept").exists()


def test_filter_finds_an_unknown_emotion_before_it_trains(monkeypatch, capsys, generated):
    shutil.copytree(generated, "out")
    index = Path("out/index.jsonl")
    index.write_text(index.read_text().replace("amusement", "ennui"))
    args = ["filter", "--generated", "out", "--ckpt", joint(), "--out", "kept"]  # trains what it needs
    trained_one = lambda *_: pytest.fail("it came to training")  # noqa: E731
    monkeypatch.setattr("uniemo.metrics.classifier_training.emotion_classifier", trained_one)
    assert main(args) == 2
    assert "ennui" in capsys.readouterr().err


def photos_with_a_broken_one():
    """Make a folder of six photos; the third is cut off."""
    Path("photos").mkdir()
    for number in range(6):
        Image.new("RGB", (40, 30), (40 * number, 0, 0)).save(f"photos/{number}.jpg")
    Path("photos/2.jpg").write_bytes(Path("photos/2.jpg").read_bytes()[:-60])


def test_a_photo_that_cannot_be_read_costs_its_row_alone(capsys):
    photos_with_a_broken_one()
    args = ["classify", "--ckpt", joint(), "photos", "--batch_size", "2", "--output", "out.jsonl"]
    capsys.readouterr()
    assert main(args) == 1
    out, err = capsys.readouterr()
    assert "photos/2.jpg  cannot be read: " in out
    assert "1 of 6 photos cannot be read, first photos/2.jpg (" in err
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == [f"photos/{number}.jpg" for number in range(6)]
    assert [number for number, row in enumerate(rows) if "error" in row] == [2]
    assert not Path("out.jsonl.partial").exists()


def test_an_interrupted_classify_keeps_its_rows(capsys, monkeypatch):
    photos_with_a_broken_one()
    ckpt = joint()
    read = images.read_image

    def stopped(file):
        if file.name == "4.jpg":
            raise KeyboardInterrupt
        return read(file)

    monkeypatch.setattr(images, "read_image", stopped)
    capsys.readouterr()
    assert main(["classify", "--ckpt", ckpt, "photos", "--batch_size", "2", "--output", "out.jsonl"]) == 130
    out, err = capsys.readouterr()
    assert "photos/3.jpg" in out
    assert "out.jsonl.partial" in err
    assert len(Path("out.jsonl.partial").read_text().splitlines()) == 4
    assert not Path("out.jsonl").exists()
