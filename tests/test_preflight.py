"""Which processes and strategies a run is refused before it starts."""

import pytest
from jsonargparse import Namespace

from uniemo.cli import parsing, preflight
from uniemo.errors import UniEmoError


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(parsing, "cpu_cores", lambda: 2)


@pytest.mark.parametrize("devices", [3, "3", 10])
def test_more_processes_than_cores(devices):
    with pytest.raises(UniEmoError, match=r"must not exceed the 2 CPU cores .* set --trainer.devices 2 or less"):
        preflight.check_devices(devices, "cpu")


@pytest.mark.parametrize("devices", [0, -1, "x", "", [0]])
def test_no_number_of_processes(devices):
    with pytest.raises(UniEmoError, match=r"--trainer.devices must be a number of processes from 1, or auto"):
        preflight.check_devices(devices, "cpu")


@pytest.mark.parametrize(("devices", "accelerator"), [(1, "cpu"), ("2", "cpu"), ("auto", "cpu"), (8, "cuda")])
def test_what_fits(devices, accelerator):
    preflight.check_devices(devices, accelerator)


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_2", "lightning.ModelParallelStrategy"])
def test_strategies_that_shard_what_is_trained(strategy):
    with pytest.raises(UniEmoError, match="must leave what is trained whole"):
        preflight.check_strategy(strategy, "joint", generates=True)


def test_the_sharded_unet_needs_a_unet():
    frozen = "uniemo.modules.strategies.FrozenFSDPStrategy"
    preflight.check_strategy(frozen, "joint", generates=True)
    preflight.check_strategy("ddp", "understanding", generates=False)
    with pytest.raises(UniEmoError, match="must be ddp for understanding"):
        preflight.check_strategy(frozen, "understanding", generates=False)


@pytest.mark.parametrize(
    ("networks", "clip", "expected"),
    [
        ("published", "ViT-L-14", ("random", "random:ViT-L-14")),
        ("published", None, ("random", None)),  # the set's own, whose weights are random
        ("miniature", None, ("miniature", "random:miniature:clip")),
    ],
)
def test_random_weights_are_those_of_metrics_too(networks, clip, expected):
    metrics = Namespace(networks=networks, clip=clip, every_n_epochs=0, val_images=8, test_images=8)
    diffusion = Namespace(path="miniature:diffusion", family=None, adapter=None)
    model = Namespace(encoder=Namespace(clip="ViT-B-32"), diffusion=diffusion)
    config = Namespace(
        weights="random",
        model=Namespace(init_args=model),
        data=Namespace(init_args=Namespace(image_size=224)),
        generation_metrics=metrics,
        explicit_feedback=Namespace(clip="miniature:clip", num_per_emotion=0),
    )
    preflight.check_weights(config, "fit")
    assert (metrics.networks, metrics.clip) == expected
    assert model.encoder.clip == "random:ViT-B-32"
