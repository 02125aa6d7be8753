"""What is in a checkpoint, and that it brings everything back."""

import json
import shutil

import pytest
import torch

from tests.tiny_runs import assets, recipe, trained
from uniemo import UniEmoError
from uniemo.checkpoint import GENERATING, load_model, read_checkpoint
from uniemo.cli import main
from uniemo.cli.training import TrainingCLI
from uniemo.data import EmoSet
from uniemo.modules import JointModule


@pytest.mark.parametrize("stage", ["understanding", "joint", "feedback"])
def test_best_holds_only_what_differs_from_the_backbones(stage):
    path = trained(stage) / "best.ckpt"
    content, info = read_checkpoint(path)
    names = list(content["state_dict"])
    assert not any(name.startswith("model.diffusion") for name in names)
    assert "optimizer_states" not in content
    size = sum(value.numel() * value.element_size() for value in content["state_dict"].values())
    assert path.stat().st_size <= 1.1 * size + 60_000  # a fixed cost of file format and configuration
    assert info.stage == stage
    assert set(info.backbones) == ({"clip"} if stage == "understanding" else {"clip", "diffusion"})
    assert content["hyper_parameters"]["encoder"]["query_length"] == 2
    # stage 1 tuned the tower, so later stages carry it though they leave it frozen
    assert any(name.startswith("model.encoder.visual.") for name in names)


def test_tuned_tower_is_handed_on_unchanged():
    first, _ = read_checkpoint(trained("understanding") / "best.ckpt")
    third, _ = read_checkpoint(trained("feedback") / "best.ckpt")
    tower = [name for name in first["state_dict"] if name.startswith("model.encoder.visual.")]
    assert tower
    assert all(torch.equal(first["state_dict"][name], third["state_dict"][name]) for name in tower)


def test_untuned_tower_stays_out(tmp_path):
    assert main([*recipe("joint"), "--run_dir", "run", "--trainer.limit_train_batches", "1"]) == 0
    content, _ = read_checkpoint(tmp_path / "run/best.ckpt")
    assert not any(name.startswith("model.encoder.visual.") for name in content["state_dict"])
    model, _ = load_model(tmp_path / "run/best.ckpt", GENERATING, generation=True)
    assert model.generate({0: 1.0}, [0], steps=1).shape == (1, 3, 32, 32)


def test_emotion_space_is_complete_at_the_end():
    content, info = read_checkpoint(trained("joint") / "best.ckpt")
    emotion = content["state_dict"]["model.space.bank_emotion"]
    assert len(emotion) == 48  # every training image; the bank has room for 256 of an emotion
    assert content["state_dict"]["model.space.mixture_emotion"].unique().tolist() == [*range(8)]
    model, _ = load_model(trained("joint") / "best.ckpt", GENERATING, generation=True)
    assert torch.equal(model.space.mixture_mean_scene, content["state_dict"]["model.space.mixture_mean_scene"])
    drawn = [model.sample_condition({2: 1.0}, [5], kind)[0] for kind in (None, "mixture", "variation")]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.allclose(content["state_dict"]["model.bank.scene_table"], torch.tensor(1 / 8))
    assert info.vocabulary.emotions[0] == "amusement"


def test_test_gives_the_accuracy_again(tmp_path):
    for word in ("a", "b"):
        assert main(["test", "--ckpt", str(trained("joint") / "best.ckpt"), "--run_dir", word]) == 0
    first, second = (json.loads((tmp_path / word / "test.json").read_text()) for word in ("a", "b"))
    assert first == second
    model, _ = load_model(trained("joint") / "best.ckpt")
    assert model.fusion is None  # nothing of the diffusion model is built for classification
    data = EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=None)
    batch = next(iter(data.evaluation_loader("test")))
    assert (model.classify(batch.images).argmax(1) == batch.emotion).float().mean() == pytest.approx(
        first["test/accuracy"]
    )


def test_command_line_wins_over_the_checkpoint(monkeypatch):
    built = []
    monkeypatch.setattr(TrainingCLI, "_run_subcommand", lambda self, _: built.append(self))
    args = ["test", "--model.head.dropout", "0.9", "--ckpt", str(trained("understanding") / "best.ckpt")]
    assert main([*args, "--data.eval_batch_size", "5", "--seed_everything", "7"]) == 0
    cli = built[0]
    assert cli.model.config.head.dropout == 0.9
    assert cli.model.config.head.hidden == 16  # the checkpoint's own
    assert cli.datamodule.eval_batch_size == 5
    assert (cli.model.seed, cli.datamodule.seed) == (7, 7)
    assert cli.run_dir == trained("understanding")


def test_load_from_checkpoint_in_python(tmp_path):
    module = JointModule.load_from_checkpoint(trained("joint") / "last.ckpt")
    assert module.config.encoder.query_length == 2
    assert module.model.space.fitted


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("hello"), "written by uniemo fit"),
        (lambda path: torch.save({"state_dict": {}}, path), "another program"),
        (lambda path: None, "existing file"),
        (lambda path: shutil.copyfile(trained("understanding") / "best.ckpt", path), "stage joint or feedback"),
        (lambda path: path.write_bytes((trained("joint") / "best.ckpt").read_bytes()[:9000]), "written by uniemo fit"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, make, message):
    make(tmp_path / "x.ckpt")
    with pytest.raises(UniEmoError, match=message):
        read_checkpoint(tmp_path / "x.ckpt", GENERATING)


def test_other_weights_behind_a_name_are_noticed(tmp_path):
    shutil.copytree(assets() / "clip", tmp_path / "clip")
    content, _ = read_checkpoint(trained("understanding") / "best.ckpt")
    content["uniemo"]["model"]["encoder"]["clip"] = content["uniemo"]["backbones"]["clip"]["name"] = str(
        tmp_path / "clip"
    )
    torch.save(content, tmp_path / "best.ckpt")
    load_model(tmp_path / "best.ckpt")
    file = tmp_path / "clip/open_clip_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="other weights"):
        load_model(tmp_path / "best.ckpt")
