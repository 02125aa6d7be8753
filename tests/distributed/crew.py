"""Two processes that know each other, for tests."""

import multiprocessing
import os
import tempfile
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

from uniemo.launch import cpu_cores

enough_cores = cpu_cores() >= 2


def _member(rank, ranks, folder, function):
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
        torch.save(function(rank), folder / f"{rank}.pt")
        dist.destroy_process_group()
    except BaseException:
        (folder / f"{rank}.txt").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)  # what the parent has registered for its own end stays undone


def on_ranks(function, ranks=2, timeout=120):
    """Call ``function(rank)`` in as many processes of one gloo group; return what each returns, rank 0 first."""
    context = multiprocessing.get_context("fork")  # they start with everything that is imported and built
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members = [context.Process(target=_member, args=(rank, ranks, folder, function)) for rank in range(ranks)]
        for member in members:
            member.start()
        for member in members:
            member.join(timeout)
            if member.is_alive():
                member.kill()
        reports = [file.read_text() for file in sorted(folder.glob("*.txt"))]
        assert not reports, "\n".join(reports)
        assert [member.exitcode for member in members] == [0] * ranks
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]
