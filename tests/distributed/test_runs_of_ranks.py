"""Whole runs: two processes learn what one learns, and each opens the other's checkpoints."""

import json
import shutil

import pytest
import torch

from tests.distributed.crew import enough_cores
from tests.tiny_runs import assets, recipe
from uniemo.cli import main

pytestmark = pytest.mark.skipif(not enough_cores, reason="two processes need two cores")

TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--data.batch_size", "8"]
STRATEGIES = {
    "one": [],  # of batch 16
    "two": [*TWO, "--trainer.strategy", "ddp_fork"],
    "fsdp": ["--config", "strategy/fsdp.yaml", *TWO, "--trainer.strategy.start_method", "fork"],
}
SAME = [
    *("--data.limit_train", "45"),  # the last batch has 13 images, of two ranks 7 and 6
    *("--model.head.dropout", "0"),  # each rank drops units of its own
    *("--model.optimizer.warmup", "0", "--model.optimizer.final", "1"),  # the same rates however long the run
    *("--attention_maps.every_n_epochs", "0", "--generation_metrics.every_n_epochs", "0"),
]


def fit(strategy, folder, *args):
    """Train a joint stage for an epoch, or whatever the args say."""
    assert main([*recipe("joint"), *SAME, *STRATEGIES[strategy], "--run_dir", str(folder), *args]) == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of one epoch with one process, with two, and with two that share out the UNet."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
        for strategy in STRATEGIES:
            fit(strategy, folder / strategy)
        yield folder


def weights(run):
    content = torch.load(run / "last.ckpt", weights_only=True)
    return content["global_step"], content["state_dict"]


def same_weights(first, second):
    """Check that two runs took as many steps and ended at the same place."""
    (steps, mine), (other_steps, theirs) = weights(first), weights(second)
    assert steps == other_steps
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.allclose(value, theirs[name], rtol=1e-3, atol=2e-5), name


@pytest.mark.parametrize("strategy", ["two", "fsdp"])
def test_two_processes_learn_what_one_learns(runs, strategy):
    same_weights(runs / "one", runs / strategy)
    assert weights(runs / "one")[1]["model.space.bank_emotion"].shape == (45,)  # the space of all images


def test_losses_shown_are_those_of_all_ranks(runs, capsys):
    tables = []
    for strategy in ("one", "two"):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(runs / strategy)).Reload()
        names = [name for name in events.Tags()["scalars"] if name.startswith("loss/")]
        tables.append({name: [event.value for event in events.Scalars(name)] for name in names})
    one, two = tables
    assert set(one) == set(two)
    assert {"loss/scene", "loss/object", "loss/emotion", "loss/condition", "loss/diffusion", "loss/total"} <= set(one)
    assert len(one["loss/total"]) == 3
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=1e-4), name


@pytest.fixture(scope="module")
def resumed(runs):
    """Each run goes on for an epoch with the other number of processes."""
    for strategy, other in (("two", "one"), ("one", "two"), ("fsdp", "one")):
        shutil.copytree(runs / strategy, runs / f"{strategy}, then {other}")
        fit(other, runs / f"{strategy}, then {other}", "--trainer.max_epochs", "2", "--resume")
    return runs


@pytest.mark.parametrize("first", ["two, then one", "fsdp, then one"])
def test_a_run_goes_on_with_another_number_of_processes(resumed, first):
    assert weights(resumed / first)[0] == 6
    same_weights(resumed / first, resumed / "one, then two")


def test_checkpoints_are_tested_with_any_number_of_processes(runs):
    common = ["test", "--generation_metrics.test_images", "0", "--ckpt"]
    two = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp_fork"]
    figures = []
    for ckpt, args in (("two", []), ("one", two)):
        assert main([*common, str(runs / ckpt / "best.ckpt"), "--run_dir", str(runs / f"test of {ckpt}"), *args]) == 0
        figures.append(json.loads((runs / f"test of {ckpt}" / "test.json").read_text()))
    assert figures[0].keys() == figures[1].keys()
    for name, value in figures[0].items():
        assert figures[1][name] == pytest.approx(value, rel=1e-4), name
