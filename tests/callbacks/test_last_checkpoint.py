"""A run that goes on from any of its last.ckpt takes the steps that it would have taken without a break."""

import shutil
from collections import namedtuple
from pathlib import Path

import lightning as L
import pytest
import torch

from tests.tiny_runs import assets
from uniemo import UniEmoError
from uniemo.callbacks import BestCheckpoint, LastCheckpoint, Summary
from uniemo.callbacks.checkpoints import AtomicCheckpointIO
from uniemo.checkpoint import GENERATING, load_model, read_checkpoint
from uniemo.data import EmoSet
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.modules import JointModule, UnderstandingModule
from uniemo.modules.optim import OptimizerConfig

pytestmark = pytest.mark.filterwarnings("ignore")

Run = namedtuple("Run", "steps validations weights best table folder")


class Recorder(L.Callback):
    """Write down what every step did; with ``keep`` copy last.ckpt as it lies there before each step, by batch."""

    def __init__(self, keep):
        self.keep, self.steps, self.validations = keep, [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        folder = Path(trainer.default_root_dir)
        if self.keep and (folder / "last.ckpt").is_file():
            shutil.copyfile(folder / "last.ckpt", folder / f"{trainer.fit_loop.total_batch_idx}.ckpt")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        counts = (trainer.current_epoch, batch_idx, trainer.fit_loop.total_batch_idx, trainer.global_step)
        self.steps.append((*counts, float(outputs["loss"]), rates, batch.names))

    def on_validation_end(self, trainer, pl_module):
        self.validations.append((trainer.global_step, float(trainer.callback_metrics["val/accuracy"])))


def fit(folder, kind=UnderstandingModule, resume=None, keep=True, workers=0, last=None, **options):
    """Train the tiny model for two epochs of six batches, last.ckpt after every step."""
    data = EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=32, batch_size=8, seed=3, num_workers=workers)
    parts = {"encoder": EncoderConfig(clip=str(assets() / "clip"), query_length=2), "head": HeadConfig(hidden=16)}
    if kind is JointModule:
        parts |= {"diffusion": DiffusionConfig(path=str(assets() / "diffusion")), "space_images": 2}
    module = kind(**parts, optimizer=OptimizerConfig(lr_clip=0.01, lr_head=0.01), seed=3)
    recorder, table, best = Recorder(keep), Summary(), BestCheckpoint()
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=str(folder),
        callbacks=[recorder, table, best, last or LastCheckpoint(every_n_steps=1)],
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 2, **options},
    )
    trainer.fit(module, data, ckpt_path=resume)
    scores = {Path(path).name: float(score) for path, score in best.best_k_models.items()}
    weights = {name: value.clone() for name, value in module.model.trained_state_dict().items()}
    return Run(recorder.steps, recorder.validations, weights, scores, table.losses, folder)


def resumed_from(whole, batch, **options):
    """Go on from the checkpoint that lay there before a batch; what comes must be the end of the whole run."""
    after = fit(whole.folder, resume=whole.folder / f"{batch}.ckpt", keep=False, **options)
    assert after.steps == whole.steps[len(whole.steps) - len(after.steps) :]
    assert after.validations == whole.validations[len(whole.validations) - len(after.validations) :]
    assert after.best == whole.best
    assert after.table == whole.table  # the last epoch's means
    assert all(torch.equal(after.weights[name], value) for name, value in whole.weights.items())
    return len(whole.steps) - len(after.steps)


@pytest.fixture(scope="module")
def understanding(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
        return fit(tmp_path_factory.mktemp("understanding"))


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
        patch.setattr(JointModule, "build_space", counted(JointModule.build_space, built := []))
        return *fit(tmp_path_factory.mktemp("joint"), JointModule), built


def counted(function, calls):
    def wrapper(self, *args):
        calls.append(self.global_step)
        return function(self, *args)

    return wrapper


def test_saving_changes_nothing(understanding, tmp_path):
    once = fit(tmp_path, keep=False, last=LastCheckpoint(every_minutes=None))
    assert once.steps == understanding.steps
    assert len({loss for *_, loss, _, _ in once.steps}) == 12
    assert len({accuracy for _, accuracy in once.validations}) == 2  # or best.ckpt would have nothing to choose


@pytest.mark.parametrize("batch", [1, 6])
def test_stage_1_goes_on_from_any_step(understanding, batch):
    assert resumed_from(understanding, batch) == batch


@pytest.mark.parametrize("batch", [4, 8])
def test_stage_2_goes_on_from_any_step(joint, batch):
    assert resumed_from(Run(*joint[:-1]), batch, kind=JointModule) == batch


@pytest.mark.parametrize(
    ("options", "batch", "saved"),
    [
        ({"accumulate_grad_batches": 4}, 6, 6),
        ({"accumulate_grad_batches": 4}, 11, 10),  # gradients of 10 to 12 would be lost
        ({"val_check_interval": 0.5}, 3, 2),  # a validation comes between
        ({"check_val_every_n_epoch": 2}, 6, 6),
        ({"max_epochs": -1, "max_steps": 10}, 6, 5),  # see LastCheckpoint.on_train_epoch_end
        ({"workers": 2}, 8, 8),
    ],
)
def test_ways_to_train(tmp_path, options, batch, saved):
    assert resumed_from(fit(tmp_path, **options), batch, **options) == saved


def test_longer_than_planned(understanding, tmp_path):
    whole = fit(tmp_path, max_epochs=3)
    after = fit(tmp_path, resume=understanding.folder / "8.ckpt", keep=False, max_epochs=3)
    rates = [step[5] for step in after.steps]
    assert rates == [step[5] for step in whole.steps[8:]]  # the cosine ends with the third epoch at once


def test_space_within_an_epoch_is_the_latest_one(joint):
    *_, folder, built = joint
    assert built[:4] == [1, 6, 12, 12]  # the first checkpoint, the epochs' ends, and in full at the end
    for batch in (1, 3):
        model, info = load_model(folder / f"{batch}.ckpt", GENERATING, generation=True)
        assert info.step == batch
        assert model.generate({0: 1.0}, [0], steps=1).shape == (1, 3, 32, 32)


def test_killed_at_the_very_end(joint, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyError("killed")

    folder = joint[-2]
    with monkeypatch.context() as patch:
        patch.setattr(JointModule, "complete_checkpoint", killed)
        with pytest.raises(KeyError, match="killed"):
            fit(tmp_path, JointModule, folder / "11.ckpt", keep=False)
    half, _ = read_checkpoint(tmp_path / "last.ckpt")
    assert len(half["state_dict"]["model.space.bank_emotion"]) == 2 * 8
    assert fit(tmp_path, JointModule, tmp_path / "last.ckpt", keep=False).steps == []
    for name in ("best.ckpt", "last.ckpt"):
        content, _ = read_checkpoint(tmp_path / name)
        assert len(content["state_dict"]["model.space.bank_emotion"]) == 48  # every training image
    whole, _ = read_checkpoint(folder / "last.ckpt")
    assert all(torch.equal(value, content["state_dict"][key]) for key, value in whole["state_dict"].items())


def test_by_the_clock(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("uniemo.callbacks.checkpoints.time.monotonic", lambda: now[0])
    monkeypatch.setattr(Recorder, "on_train_batch_end", lambda *_: now.__setitem__(0, now[0] + 60))
    fit(tmp_path, last=LastCheckpoint(every_minutes=2.5), max_epochs=1)
    saved = {batch: read_checkpoint(tmp_path / f"{batch}.ckpt")[1].step for batch in (3, 4, 5)}
    assert saved == {3: 3, 4: 3, 5: 3}
    assert not (tmp_path / "2.ckpt").exists()
    assert read_checkpoint(tmp_path / "last.ckpt")[1].step == 6


@pytest.mark.parametrize(("name", "value"), [("every_n_steps", 0), ("every_minutes", 0), ("every_minutes", -1.0)])
def test_ranges(name, value):
    with pytest.raises(UniEmoError, match=name):
        LastCheckpoint(**{name: value})


def test_killed_while_writing(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def half(content, file):
        file.write(b"PK\x03\x04")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_half_a_file_is_cleared_away(tmp_path):
    left = tmp_path / ".last.ckpt.k3j2h1"
    left.mkdir()
    (left / "last.ckpt").write_bytes(b"PK\x03\x04")
    fit(tmp_path, keep=False, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    assert not left.exists()
    assert read_checkpoint(tmp_path / "last.ckpt")[1].step == 1


def test_a_writer_that_was_chosen_stays(tmp_path):
    from lightning.fabric.plugins import TorchCheckpointIO

    class Chosen(TorchCheckpointIO):
        pass

    plugin = Chosen()
    trainer = L.Trainer(accelerator="cpu", default_root_dir=str(tmp_path), plugins=[plugin], logger=False)
    LastCheckpoint().setup(trainer, L.LightningModule(), "fit")
    assert trainer.strategy.checkpoint_io is plugin
