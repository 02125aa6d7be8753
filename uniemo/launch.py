"""Starting several processes for one command, and what a process knows from the launcher that started it.

The processes find each other by torchrun's environment variables, so that ``--devices`` and torchrun run the same code.
Nothing large is imported before it is needed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

from uniemo.errors import UniEmoError, one_line

PERIOD, GRACE = 1.0, 10.0  # seconds between two looks at the parent, and to end in an orderly way when it is gone
LOST = (
    "every process of a run must stay alive; another one has ended or does not answer: its own message, if it has left "
    "one, says why; --resume goes on from last.ckpt"
)
_TIMEOUT = timedelta(days=1)  # processes meet when their shares are done; one that dies is noticed at once


def launched_rank() -> int:
    """Return this process's rank as its launcher says it; 0 without a launcher, and only for the first process."""
    names = ("RANK",) if "RANK" in os.environ else ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    return max(int(os.environ.get(name, "0")) for name in names)


def launched_world_size() -> int:
    """Return how many processes torchrun or :func:`launch` has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def cpu_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Yield the device of this process, of cuda its own GPU; one of several processes joins the others first."""
    import torch

    joins = launched_world_size() > 1 and not torch.distributed.is_initialized()
    if joins:
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        torch.distributed.init_process_group(backend, timeout=_TIMEOUT)
    yield device
    if joins:  # after an error the process ends, which the others notice
        torch.distributed.destroy_process_group()


def launch(work: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Call a function in several new processes, each with a rank, and wait until all are done.

    When one fails or is killed, the others are ended. They end with this process too, however it ends.

    Raises:
        UniEmoError: what the first process to fail has said, or how it was ended.
    """
    import torch.multiprocessing as mp

    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.start_processes(_work, (work, arguments, processes, port), processes, join=False, start_method="spawn")
    try:
        while not context.join():
            pass
    except mp.ProcessExitedException as error:
        raise UniEmoError(
            f"process {error.error_index + 1} of {processes} was killed (exit code {error.exit_code}) and the others "
            "were ended: look whether memory ran out, then take a smaller --batch_size or fewer --devices"
        ) from None
    except mp.ProcessRaisedException as error:
        message = str(error).strip().splitlines()[-1]
        mistake = message.removeprefix(f"{UniEmoError.__module__}.{UniEmoError.__qualname__}: ")
        if mistake == message:
            print(error, file=sys.stderr)
        raise UniEmoError(mistake) from None
    finally:
        for process in context.processes:
            process.terminate()
            process.join()


def _work(rank: int, work: Callable[..., None], arguments: tuple[Any, ...], processes: int, port: int) -> None:
    """Do the work of one process."""
    from tqdm import tqdm

    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_cores() // processes)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a progress bar ends its line
    tqdm.set_lock(threading.RLock())  # the default one is a semaphore, reported as leaked when a process is killed
    with ending_with_parent():
        try:
            work(*arguments)
        except Exception as error:
            line = one_line(error)
            if line is None:
                raise
            raise UniEmoError(line) from error


@contextmanager
def ending_with_parent(period: float = PERIOD, grace: float = GRACE) -> Iterator[None]:
    """End this process when the one that has started it ends before the block does, whatever it is waiting for.

    It looks every ``period`` seconds, and then leaves itself ``grace`` seconds to end by itself.
    """
    parent, done = os.getppid(), threading.Event()

    def watch() -> None:
        while not done.wait(period):
            if os.getppid() != parent and not done.wait(grace):
                print(f"error: {LOST}", file=sys.stderr, flush=True)
                os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()
    try:
        yield
    finally:
        done.set()


def lost_contact(error: BaseException) -> bool:
    """Whether an error says that another process of the run cannot be reached any more."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)  # gloo raises a plain RuntimeError
