"""When one process of a run dies, the others end too, with a line on the screen and a code that is not zero.

Collective operations raise where the connection to a dead process breaks; gloo does so at once. torchrun, srun and
Lightning's launcher end what is left when a process that they have started fails. Two things remain, and are done here:
telling an error of that kind from others, and ending a process whose launcher has died itself.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

PERIOD, GRACE = 1.0, 10.0  # seconds between two looks at the parent, and to end in an orderly way when it is gone
LOST = (
    "every process of a run must stay alive; another one has ended or does not answer: its own message, if it has left "
    "one, says why; --resume goes on from last.ckpt"
)


def lost_contact(error: BaseException) -> bool:
    """Whether an error says that another process of the run cannot be reached any more."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)  # gloo raises a plain RuntimeError


@contextmanager
def ending_with_parent(period: float = PERIOD, grace: float = GRACE) -> Iterator[None]:
    """End this process when the one that has started it ends before the block does, whatever it is waiting for.

    Args:
        period: seconds between two looks.
        grace: seconds that the process then has left, to end by itself.
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
