"""What several processes say on the screen, and who says it."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from tests.distributed.crew import enough_cores, on_ranks
from tests.distributed.test_gradients import build
from uniemo.callbacks.summary import Summary
from uniemo.cli import main
from uniemo.distributed import is_first
from uniemo.launch import lost_contact


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_errors_of_other_ranks_say_so(monkeypatch, capsys, variable):
    assert main(["fitt"]) == 2
    assert capsys.readouterr().err.startswith("error: command must be")
    monkeypatch.setenv(variable, "3")
    assert main(["fitt"]) == 2
    assert capsys.readouterr().err.startswith("error (rank 3): command must be")


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),  # torchrun, second machine
        ({"NODE_RANK": "1"}, False),  # Lightning's launcher, second machine
        ({"LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "1"}, False),
    ],
)
def test_the_first_process_is_known_before_they_meet(monkeypatch, variables, first):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first() is first


@pytest.mark.skipif(not enough_cores, reason="two processes need two cores")
def test_the_first_process_is_known_once_they_have_met():
    assert on_ranks(lambda rank: is_first()) == [True, False]


def test_errors_of_communication_are_told_from_others():
    broken = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:42883: reset by peer"
    assert lost_contact(RuntimeError(broken))
    assert lost_contact(dist.DistBackendError("NCCL communicator was aborted on rank 0"))
    assert not lost_contact(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.skipif(not enough_cores, reason="two processes need two cores")
def test_means_of_the_summary_are_over_all_images():
    """Three steps of 16, 16 and 13 images, of two ranks 8 + 8, 8 + 8 and 7 + 6; losses are those of all ranks."""
    losses, whole, shares = (3.0, 2.0, 0.5), (16, 16, 13), ((8, 8, 7), (8, 8, 6))

    def reduce(value, reduce_op):
        assert reduce_op == "mean"
        if dist.is_initialized():
            dist.all_reduce(value)
            value /= 2
        return value

    def means(sizes, ranks):
        table, module = Summary(), SimpleNamespace(device=torch.device("cpu"))
        trainer = SimpleNamespace(world_size=ranks, strategy=SimpleNamespace(reduce=reduce), callback_metrics={})
        table.on_train_epoch_start(trainer, module)
        for loss, size in zip(losses, sizes, strict=True):
            trainer.callback_metrics["loss/total"] = torch.tensor(loss)
            table.on_train_batch_end(trainer, module, None, range(size), 0)
        table.on_train_epoch_end(trainer, module)
        return table.losses["loss/total"]

    expected = (16 * 3.0 + 16 * 2.0 + 13 * 0.5) / 45
    assert means(whole, 1) == pytest.approx(expected)
    assert on_ranks(lambda rank: means(shares[rank], 2)) == pytest.approx([expected, expected])


def test_a_module_s_state_is_what_checkpoints_hold():
    module = build("joint")
    state = module.state_dict()
    assert not any(".diffusion." in name for name in state)
    assert set(state) == {f"model.{name}" for name in module.model.trained_state_dict(module.clip_tuned)}
    wrapped = torch.nn.ModuleDict({"inner": module}).state_dict()
    assert set(wrapped) == {f"inner.{name}" for name in state}
    module.load_state_dict(state)
