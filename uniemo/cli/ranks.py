"""Several processes for one command: started here by ``--devices``, or by torchrun; each does its share of the work.

They find each other by torchrun's environment variables, so that both ways run the same code.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from uniemo.cli import mistake
from uniemo.cli.devices import check_devices, cpu_cores
from uniemo.cli.parsing import pick_device, positive
from uniemo.errors import UniEmoError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext, SpawnProcess

_PATIENCE = timedelta(days=1)  # ranks meet when their shares are done; one that dies is noticed at once
_LONGEST = 10_000  # characters of an error that travel: a pipe holds that many unread


def add_devices(parser: argparse.ArgumentParser) -> None:
    """Add ``--devices``."""
    parser.add_argument(
        "--devices",
        type=positive,
        default=1,
        metavar="N",
        help="processes that share the work: one for each GPU, or on a CPU at most one for each core (1)",
    )


def first_rank() -> bool:
    """Whether this process is the one that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def processes_to_start(devices: int, device: str) -> int:
    """Return how many processes a command has to start: 1 where it does its work itself.

    Args:
        devices: of the command line.
        device: likewise; auto takes GPUs if there are any.

    Raises:
        UniEmoError: more than there are GPUs or cores, or several processes for a single device.
    """
    if devices == 1 or _ranks() > 1:
        return 1
    import torch

    kind = pick_device(device)
    if kind == "cpu":
        check_devices(devices, True, cpu_cores(), "--devices")
    elif kind != "cuda":
        raise UniEmoError(f"--device must be cpu, cuda or auto with --devices {devices}; got {device}: leave it out")
    elif devices > (count := torch.cuda.device_count()):
        raise UniEmoError(f"--devices must not exceed the {count} GPUs here; got {devices}: set {count} or less")
    return devices


@contextmanager
def joined(wanted: str) -> Iterator[str]:
    """Yield the device of this process; one of several ranks joins the others first, each on its GPU where there are.

    Args:
        wanted: ``--device``.
    """
    import torch

    device = pick_device(wanted)
    joins = _ranks() > 1 and not torch.distributed.is_initialized()
    if joins:
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    yield device
    if joins:  # after an error the process ends, which tells the others
        torch.distributed.destroy_process_group()


def run_ranks(work: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Call a function in several new processes, each with a rank, and wait until all are done.

    When one fails or is killed, the others are ended. They end with this process too, however it ends.

    Args:
        work: a function that can be imported by name.
        arguments: what it is called with.
        processes: how many.

    Raises:
        UniEmoError: what the first one to fail has said, or how it was ended.
    """
    context = multiprocessing.get_context("spawn")
    started: list[tuple[SpawnProcess, connection.Connection]] = []
    port = _free_port()
    try:
        for rank in range(processes):
            started.append(_start(context, work, arguments, _environment(rank, processes, port)))
        _wait(started)
    finally:
        for process, _ in started:
            process.terminate()
        for process, _ in started:
            process.join(5)
            process.kill()
            process.join()


def _start(
    context: SpawnContext, work: Callable[..., None], arguments: tuple[Any, ...], environment: Mapping[str, str]
) -> tuple[SpawnProcess, connection.Connection]:
    """Return a running rank and the pipe on which it says what went wrong."""
    words, says = context.Pipe(duplex=False)
    process = context.Process(target=_rank, args=(work, arguments, environment, says))
    process.start()
    says.close()
    return process, words


def _wait(started: list[tuple[SpawnProcess, connection.Connection]]) -> None:
    """Wait for all ranks; UniEmoError as soon as one has failed."""
    running = dict(enumerate(started))
    while running:
        connection.wait([process.sentinel for process, _ in running.values()])
        failed = {}
        for rank, (process, words) in list(running.items()):
            if not process.is_alive():
                del running[rank]
                if process.exitcode:
                    failed[rank] = process.exitcode, words
        if failed:
            rank = min(failed, key=lambda one: failed[one][0])  # of one that was killed the code is negative
            code, words = failed[rank]
            try:
                message, trace = words.recv()
            except EOFError:  # it had no time for words
                raise UniEmoError(
                    f"process {rank + 1} of {len(started)} was killed (exit code {code}) and the others were ended: "
                    "look whether memory ran out, then take a smaller --batch_size or fewer --devices"
                ) from None
            print(trace, end="", file=sys.stderr)
            raise UniEmoError(message)


def _rank(
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    environment: Mapping[str, str],
    says: connection.Connection,
) -> None:
    """Do a rank's work; tell the parent about an error, with its traceback where it is no mistake of the user's."""
    from tqdm import tqdm

    os.environ.update(environment)  # before PyTorch is imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it too, and ends its ranks
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a bar ends its line
    tqdm.set_lock(threading.RLock())  # its own is for several processes, and is complained about when one is killed
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        work(*arguments)
    except Exception as error:
        line = mistake(error)
        trace = "" if line is not None else traceback.format_exc()
        says.send(((line or f"{type(error).__name__}: {error}")[:_LONGEST], trace[-_LONGEST:]))
        sys.exit(1)


def _end_with(sentinel: int) -> None:
    """End this process when the one that a sentinel stands for has ended."""
    connection.wait([sentinel])
    os._exit(1)


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Return the variables by which ranks find each other, and each one's share of the cores."""
    threads = str(max(1, cpu_cores() // ranks))
    return {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
    }


def _free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _ranks() -> int:
    """Return how many processes share the work, as torchrun or :func:`run_ranks` says."""
    return int(os.environ.get("WORLD_SIZE", "1"))
