"""Checkpoints from elsewhere run no code and choose no folder to write to; damaged ones are refused in one line."""

import random
from pathlib import Path

import pytest
import torch
import yaml

from tests.tiny_runs import assets, trained
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.data.datamodule import EmotionDataModule
from uniemo.errors import UniEmoError
from uniemo.stored_config import import_class, stored_config

EVIL = "from pathlib import Path\nPath('ran').touch()\nclass Evil:\n    def __init__(self, *args, **kwargs): pass\n"
CLASS = {"class_path": "evil.Evil", "init_args": {}}


@pytest.fixture(autouse=True)
def evil(tmp_path, monkeypatch):
    """A folder with a module that leaves a trace when it is imported."""
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
    monkeypatch.chdir(tmp_path)


def hostile(change, stage="understanding"):
    """Write x.ckpt, a run's checkpoint of which ``change`` has changed the content."""
    content, _ = read_checkpoint(trained(stage) / "best.ckpt")
    change(content)
    torch.save(content, "x.ckpt")


def configured(change):
    """Write x.ckpt with a changed configuration."""

    def edit(content):
        config = yaml.safe_load(content["uniemo"]["config"])
        change(config)
        content["uniemo"]["config"] = yaml.safe_dump(config)

    hostile(edit)


def refused(capsys, *args):
    """Return the one line with which a command ends."""
    assert main(list(args)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not Path("ran").exists()
    return error


def foreign_model(config):
    config["model"].update(CLASS)


@pytest.mark.parametrize(
    ("change", "command"),
    [
        *((foreign_model, command) for command in ("test", "validate", "predict", "fit")),
        (lambda config: config["data"].update(CLASS), "test"),
        (lambda config: config["model"]["init_args"].update(encoder=CLASS), "test"),
        (lambda config: config["data"]["init_args"].update(root=[CLASS]), "test"),
        (lambda config: config["data"].update(class_path="subprocess.Popen"), "test"),
        (lambda config: config["data"].update(class_path=["evil.Evil"]), "test"),
    ],
)
def test_foreign_classes_are_refused(capsys, command, change):
    configured(change)
    assert "--trust" in refused(capsys, command, "--ckpt", "x.ckpt")


def test_everything_else_is_left_out(tmp_path):
    def change(config):
        config["trainer"].update(
            {name: CLASS for name in ("logger", "strategy", "profiler", "plugins")},
            callbacks=[CLASS],
            default_root_dir="elsewhere",
            max_epochs=7,
            precision="32-true",
        )
        config.update(
            run_dir="elsewhere",
            overwrite=True,
            evil=CLASS,
            generation_metrics={"clip": "x", "judge": "y", "seed": CLASS},
        )
        config["best_checkpoint"]["dirpath"] = {"a": 1}

    configured(change)
    _, info = read_checkpoint("x.ckpt")
    config = stored_config(info)
    assert set(config) >= {"model", "data", "trainer", "seed_everything"}
    assert not {"run_dir", "overwrite", "evil"} & set(config)
    trainer = config["trainer"]
    assert (trainer["max_epochs"], trainer["precision"]) == (7, "32-true")
    assert not {"logger", "strategy", "profiler", "plugins", "callbacks", "default_root_dir"} & set(trainer)
    assert config["generation_metrics"] == {"clip": "x"}
    assert main(["test", "--ckpt", "x.ckpt", "--run_dir", "run"]) == 0
    assert not Path("ran").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"evil.py", "x.ckpt", "run", "__pycache__"}


@pytest.mark.parametrize("text", ["[1, 2", "- 1", "model: 3", "data: {init_args: [1]}", "!!python/object:evil.Evil {}"])
def test_configurations_that_are_none(capsys, text):
    hostile(lambda content: content["uniemo"].update(config=text))
    refused(capsys, "test", "--ckpt", "x.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(state_dict=[]),
        lambda content: content.update(global_step="x"),
        lambda content: content.update(uniemo=3),
        lambda content: content["uniemo"].pop("vocabulary"),
        lambda content: content["uniemo"].update(stage=3),
        lambda content: content["uniemo"].update(backbones=[]),
        lambda content: content["uniemo"]["vocabulary"].update(emotions=[1, 2]),
        lambda content: content["uniemo"]["model"].pop("encoder"),
        lambda content: content["uniemo"]["model"]["encoder"].update(query_length="many"),
        lambda content: content["uniemo"]["model"]["head"].update(width=3),
        lambda content: content["state_dict"].popitem(),
    ],
)
def test_wrong_types_and_missing_entries(capsys, change):
    hostile(change)
    refused(capsys, "classify", "--ckpt", "x.ckpt", str(assets() / "tree/image/awe"))


def test_classes_inside_a_model_s_description(capsys):
    hostile(lambda content: content["uniemo"]["model"]["diffusion"].update(family="evil.Evil"), "joint")
    assert "--trust" in refused(capsys, "generate", "--ckpt", "x.ckpt", "--emotion", "awe", "--out", "out")


def test_flipped_bits_are_noticed(capsys):
    content = bytearray((trained("understanding") / "best.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    Path("x.ckpt").write_bytes(content)
    assert "damaged" in refused(capsys, "test", "--ckpt", "x.ckpt")


def test_no_flipped_bit_changes_a_checkpoint():
    """Each is refused, or lies between the entries of the archive and changes nothing."""
    whole = (trained("understanding") / "best.ckpt").read_bytes()
    state = read_checkpoint(trained("understanding") / "best.ckpt")[0]["state_dict"]
    rng, refusals = random.Random(0), 0
    for _ in range(100):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        Path("x.ckpt").write_bytes(content)
        try:
            found = read_checkpoint("x.ckpt")[0]["state_dict"]
        except UniEmoError:
            refusals += 1
            continue
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], value) for name, value in state.items())
    assert refusals > 60


def test_only_classes_of_the_right_kind_are_imported():
    assert import_class("uniemo.data.FI", EmotionDataModule, "x").__name__ == "FI"
    with pytest.raises(UniEmoError, match="class path of a EmotionDataModule"):
        import_class("uniemo.modules.JointModule", EmotionDataModule, "x")
    for name in ("uniemo.cli.main", "uniemo.data.Nothing", "uniemo.nowhere.X", "uniemo.cli.os.system", "evil.Evil"):
        with pytest.raises(UniEmoError, match="--trust"):
            import_class(name, EmotionDataModule, "x")
    assert not Path("ran").exists()
