"""Training that has diverged ends with one line, and nothing that is not finite is written or read."""

import json
import math
import shutil
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.distributed.crew import enough_cores, on_ranks
from tests.refusals import one_line_error, refused
from tests.tiny_runs import assets, recipe, trained
from tests.trees import painted_emoset
from uniemo import UniEmoError
from uniemo.callbacks.checkpoints import LastCheckpoint
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.data import EmoSet
from uniemo.distributed import average
from uniemo.models.clip import load_clip
from uniemo.models.diffusion import load_pipeline
from uniemo.models.encoder import EncoderConfig
from uniemo.modules import UnderstandingModule
from uniemo.modules.divergence import LossCheck

RATES = ("lr_query", "lr_head", "lr_fusion")


@pytest.mark.parametrize("stage", ["understanding", "joint", "feedback"])
def test_every_stage_stops_at_the_first_loss_that_is_not_finite(stage, tmp_path, capsys):
    args = [f"--model.optimizer.{name}=1e9" for name in RATES if stage != "understanding" or name != "lr_fusion"]
    if stage == "feedback":
        args += ["--model.init_from", trained("joint") / "best.ckpt"]
    line = refused(capsys, *recipe(stage), *args, "--run_dir", "run")
    assert "training losses must be finite; at step 1 scene, object, emotion" in line
    assert ": nan (learning rates: " in line
    assert "query 7.96e+08" in line or stage == "feedback"
    assert "total" not in line
    assert line.endswith("lower the learning rate\n")
    assert not list(tmp_path.glob("run/*.ckpt"))


def test_one_term_is_named(capsys):
    line = refused(capsys, *recipe("understanding"), "--model.optimizer.lr_head=1e30", "--trainer.precision=bf16-mixed")
    assert "at step 1 emotion: nan" in line
    assert line.endswith("lower the learning rate, or take --trainer.precision 32-true or bf16-mixed\n")


def test_rates_that_overflow_adam_are_refused(capsys):
    line = refused(capsys, *recipe("understanding"), "--model.optimizer.lr_head=1e308")
    assert "model.optimizer.lr_head must be at most 1e+30; got 1e+308" in line


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "64-true"])
def test_weights_stay_in_32_bits(precision, tmp_path, capsys):
    line = refused(capsys, *recipe("understanding"), "--trainer.precision", precision, "--run_dir", "run")
    assert "trainer.precision must be 32-true, bf16-mixed or 16-mixed" in line
    assert not (tmp_path / "run").exists()


def test_weights_too_large_to_use_are_not_the_best(tmp_path, capsys):
    """Divergence in the last step, with finite losses before it."""
    args = ("--model.optimizer.lr_head=1e30", "--data.batch_size=48", "--run_dir=run")  # one batch
    assert "emotion scores must be finite; 32 of 32 images" in refused(capsys, *recipe("understanding"), *args)
    assert not (tmp_path / "run/best.ckpt").exists()


@pytest.mark.skipif(not enough_cores, reason="two processes need two cores")
def test_all_ranks_stop_together():
    def message(rank):
        check, trainer = LossCheck(), SimpleNamespace(global_step=4, precision="32-true", optimizers=[])
        trainer.optimizers.append(SimpleNamespace(param_groups=[{"lr": 0.5}]))
        check.begin(["scene", "total"], average(torch.tensor([1.0, 2.0])))
        check.end(trainer)
        check.begin(["scene", "total"], average(torch.tensor([1.0, math.inf if rank else 2.0])))
        try:
            check.end(trainer)
        except UniEmoError as error:
            return str(error)

    first, second = on_ranks(message)
    assert first == second
    assert first.startswith("training losses must be finite; at step 4 total: inf (learning rates: 0.5)")


class Spoil(L.Callback):
    """Put NaN into the head after the last step of the second epoch."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step == 2:
            with torch.no_grad():
                pl_module.model.head.fc1.bias[3] = torch.nan


def test_weights_that_are_not_finite_replace_no_checkpoint(tmp_path):
    module = UnderstandingModule(EncoderConfig(clip=str(assets() / "clip"), query_length=2))
    data = EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=None, batch_size=48)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}
    last = LastCheckpoint()
    trainer = L.Trainer(max_epochs=2, default_root_dir=tmp_path, callbacks=[Spoil(), last], accelerator="cpu", **quiet)
    with one_line_error("to write must hold finite numbers; model.head.fc1.bias has NaN"):
        trainer.fit(module, datamodule=data)
    content, info = read_checkpoint(tmp_path / "last.ckpt")
    assert info.step == 1
    assert content["state_dict"]["model.head.fc1.bias"].isfinite().all()
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def spoilt(stage, folder):
    """Write a stage's checkpoint with one infinite weight."""
    content = torch.load(trained(stage) / "last.ckpt", weights_only=True)
    content["state_dict"]["model.head.fc0.weight"][1, 2] = math.inf
    folder.mkdir()
    torch.save(content, folder / "last.ckpt")
    return folder / "last.ckpt"


def test_no_command_opens_weights_that_are_not_finite(tmp_path, capsys):
    path = spoilt("joint", tmp_path / "run")
    image = next((assets() / "tree").rglob("*.jpg"))
    generate = ("generate", "--ckpt", path, "--emotion", "awe", "--out", "images")
    for args in (
        ("test", "--ckpt", path),
        ("predict", "--ckpt", path),
        ("classify", "--ckpt", path, image),
        generate,
        (*recipe("joint"), "--run_dir", path.parent, "--resume"),
        (*recipe("feedback"), "--model.init_from", path),
        ("convert", path, "--to", "safetensors", "--output", "x.safetensors"),
    ):
        line = refused(capsys, *args)
        assert "last.ckpt must hold finite numbers; model.head.fc0.weight has NaN or infinity" in line, args
    module = UnderstandingModule(EncoderConfig(clip=str(assets() / "clip"), query_length=2))
    trainer = L.Trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False, accelerator="cpu")
    data = EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=None)
    with one_line_error(r"model\.head\.fc0\.weight has NaN"):  # from Python
        trainer.test(module, data, ckpt_path=str(spoilt("understanding", tmp_path / "python")), weights_only=True)


@pytest.mark.parametrize(
    ("what", "file", "load"),
    [
        ("clip", "open_clip_model.safetensors", load_clip),
        ("diffusion", "unet/diffusion_pytorch_model.safetensors", load_pipeline),
    ],
)
def test_networks_that_are_not_finite(tmp_path, what, file, load):
    shutil.copytree(assets() / what, tmp_path / what)
    state = load_file(tmp_path / what / file)
    name = sorted(name for name, value in state.items() if value.is_floating_point())[0]
    state[name].flatten()[-1] = torch.nan
    save_file(state, tmp_path / what / file, {"format": "pt"})
    with one_line_error(f"{name} has NaN"):
        load(str(tmp_path / what))


def test_scores_that_are_not_finite_are_in_no_file(tmp_path, capsys):
    """Finite weights, of which the network's output is not."""
    content = torch.load(trained("understanding") / "best.ckpt", weights_only=True)
    for name, value in content["state_dict"].items():
        if ".head." in name:
            value.fill_(1e30)
    torch.save(content, "large.ckpt")
    image = next((assets() / "tree").rglob("*.jpg"))
    for args in (("predict",), ("test",), ("classify", image, "--output", "x.jsonl")):
        assert "must be finite" in refused(capsys, *args, "--ckpt", "large.ckpt")
    names = {path.name for path in tmp_path.rglob("*.json*")}
    assert not names & {"predictions.jsonl", "x.jsonl", "test.json", "test_confusion.json"}


def test_a_metric_without_images_is_null_and_says_why(tmp_path):
    args = ["--data.root", str(painted_emoset("tree", 8, 8, 5, size=32)), "--run_dir", "run"]
    assert main(["test", "--ckpt", str(trained("understanding") / "best.ckpt"), *args]) == 0
    values = json.loads((tmp_path / "run/test.json").read_text(), parse_constant=pytest.fail)
    missing = [name for name, value in values.items() if value is None]
    assert missing
    assert values["undefined"] == dict.fromkeys(missing, "the split has no image of it")
