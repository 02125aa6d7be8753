"""Training with latents from the cache has the losses of training without, and the VAE rests."""

import pytest
import torch

from tests.forked import TWO, needs_two_cores
from tests.refusals import refused
from tests.tiny_runs import assets, recipe
from uniemo.cli import main
from uniemo.models.diffusion import DiffusionBackbone, DiffusionConfig, load_diffusion
from uniemo.modules import JointModule
from uniemo.modules.generator import vae_key

QUIET = ["--generation_metrics.every_n_epochs", "0", "--attention_maps.every_n_epochs", "0"]
SIZES = ["--data.diffusion_size", "32", "--data.batch_size", "12"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch, run_folder):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def steps(monkeypatch):
    """Records, for each training step, the losses and what the batch was made of."""
    seen, losses = [], JointModule.losses

    def recorded(self, batch):
        total, terms = losses(self, batch)
        seen.append(
            (batch, {"total": float(total.detach())} | {name: float(value.detach()) for name, value in terms.items()})
        )
        return total, terms

    monkeypatch.setattr(JointModule, "losses", recorded)
    return seen


@pytest.fixture
def encoded(monkeypatch):
    """Counts the images that go through the VAE's encoder."""
    counts, posterior = [], DiffusionBackbone.posterior

    def counted(self, images):
        counts.append(len(images))
        return posterior(self, images)

    monkeypatch.setattr(DiffusionBackbone, "posterior", counted)
    return counts


def fit(stage, *args):
    assert main([*recipe(stage), *QUIET, *SIZES, *args]) == 0


def test_losses_are_those_without_the_cache(steps, encoded, capsys, tmp_path):
    two = ["--trainer.max_epochs", "2"]
    fit("joint", *two, "--data.crop", "central", "--run_dir", "plain")
    assert sum(encoded) == 2 * 48
    plain, out = list(steps), capsys.readouterr().out
    assert "latents" not in out
    steps.clear()
    encoded.clear()
    fit("joint", "--config", "cached_latents.yaml", *two, "--run_dir", "cached")
    assert "cached latents of 48 images, central square and random flip: 48 to encode" in capsys.readouterr().out
    assert sum(encoded) == 2 * 48  # each and its mirror image, before the first step
    assert len(plain) == len(steps) == 8
    flips = set()
    for (shown, before), (batch, now) in zip(plain, steps, strict=True):
        assert batch.targets is None
        assert shown.latents is None
        assert torch.equal(batch.images, shown.images)
        assert now == pytest.approx(before, rel=1e-3)
        flips |= {(int(i), float(image[0, 0, 0])) for i, image in zip(batch.sample_id, batch.images, strict=True)}
    assert len(flips) > 48  # in two epochs some are seen both ways
    assert abs(plain[0][1]["diffusion"] - plain[4][1]["diffusion"]) > 1e-3  # the comparison could fail
    # a resumed run finds them
    encoded.clear()
    args = ["--ckpt", "cached/last.ckpt", "--run_dir", "cached", "--resume", "--trainer.max_steps", "9"]
    assert main(["fit", *args, "--trainer.max_epochs", "-1"]) == 0
    assert "all there" in capsys.readouterr().out
    assert encoded == []
    assert len(steps) == 9
    assert steps[-1][0].latents is not None
    # and what was trained so is tested without
    assert main(["test", "--ckpt", "cached/best.ckpt", *QUIET]) == 0
    assert encoded == []


def test_generated_images_join_during_a_run(steps, encoded, capsys):
    args = ["--explicit_feedback.start_epoch", "1", "--trainer.max_epochs", "2", "--run_dir", "run"]
    fit("feedback", "--config", "cached_latents.yaml", *args)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cached latents of")]
    assert len(said) == 2
    count = int(said[1].split()[3])
    assert count > 48
    assert f": {count - 48} to encode" in said[1]
    assert sum(encoded) == 2 * count
    assert sum(int(batch.generated.sum()) for batch, _ in steps) == count - 48
    assert all(batch.latents is not None for batch, _ in steps)


@needs_two_cores
def test_two_processes_share_the_work(capfd, tmp_path):
    fit("joint", "--config", "cached_latents.yaml", *TWO, "--trainer.max_steps", "1", "--run_dir", "run")
    assert capfd.readouterr().out.count("48 to encode") == 1
    assert len(list((tmp_path / "cache/latents").rglob("*.npz"))) == 48


def test_stage_1_has_no_latents(capsys):
    assert "data.diffusion_size must be set with data.cached_latents" in refused(
        capsys, *recipe("understanding"), "--config", "cached_latents.yaml", "--run_dir", "one"
    )
    args = ["--config", "cached_latents.yaml", "--data.diffusion_size", "32", "--run_dir", "one"]
    assert "data.cached_latents is for stages 2 and 3" in refused(capsys, *recipe("understanding"), *args)


def test_the_key_is_the_encoders(tmp_path):
    path = str(assets() / "diffusion")
    first, again = (load_diffusion(DiffusionConfig(path=path)) for _ in range(2))
    key = vae_key(first)
    assert len(key) == 12
    assert vae_key(again) == key
    with torch.no_grad():
        again.vae.decoder.conv_in.weight[0, 0, 0, 0] += 1
        again.unet.conv_in.weight[0, 0, 0, 0] += 1
    assert vae_key(again) == key
    assert vae_key(again, "bf16-mixed") == key
    assert vae_key(again, "bf16-true") != key
    with torch.no_grad():
        again.vae.encoder.conv_in.weight[0, 0, 0, 0] += 1e-6
    assert vae_key(again) != key
    assert vae_key(first.to(torch.bfloat16)) != key
