"""Two processes that know each other, as a trainer's ranks do, forked from the test with all that it has loaded."""

import pytest
import torch

from uniemo.launch import cpu_cores

needs_two_cores = pytest.mark.skipif(
    cpu_cores() < 2 or "fork" not in torch.multiprocessing.get_all_start_methods(), reason="needs fork and two cores"
)
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp_fork"]


def _rank(rank, work, folder, arguments):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    work(rank, *arguments)
    torch.distributed.destroy_process_group()


def two_ranks(work, folder, *arguments):
    """Call ``work(rank, *arguments)`` on two ranks that meet in ``folder``, and wait for both."""
    (folder / "rendezvous").unlink(missing_ok=True)
    torch.multiprocessing.start_processes(_rank, (work, str(folder), arguments), nprocs=2, start_method="fork")
