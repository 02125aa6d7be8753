"""What each known optimisation buys, one at a time, against the way things run by default.

    python -m benchmarks.optimisations stage1 --compile     # ViT-B/32, batch 32, --json FILE writes the figures
    python -m benchmarks.optimisations miniature --compile  # joint training, batch 32
    python -m benchmarks.optimisations sd15                # UNet of Stable Diffusion 1.5, 64 x 64 latents, batch 1
    python -m benchmarks.optimisations vae                 # its VAE, 512 x 512
    python -m benchmarks.optimisations stage1 --profile    # where the time goes: benchmarks/profiles/stage1.txt

A turn is one step on a batch that is ready in memory: forward, backward, AdamW where weights learn (the UNet's do not,
its gradient goes on to the condition; the VAE has no backward pass). Each row differs from *default* in one thing:

- *bf16*: mixed precision (``trainer.precision: bf16-mixed``), of a frozen network its weights (``diffusion.dtype``);
- *plain attention*: with the map of attention weights made and kept, as attention was written before PyTorch's own;
- *channels-last*: pixels whose channels lie side by side, for convolutions;
- *checkpointing*: activations are computed again in the backward pass (``encoder.checkpointing``,
  ``diffusion.checkpointing``);
- *fused AdamW*, *foreach AdamW*: one kernel for the whole step, or one for each of its operations;
- *compiled*: ``torch.compile``, with ``--compile``. What compiling takes is printed and does not count.

Peak memory is that of all tensors alive at once, weights and AdamW's averages apart (``benchmarks/memory.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks.memory import LiveBytes
from benchmarks.timing import Clock, Rounds, Times, Turn, conditions, options, report, sentence
from benchmarks.workloads import WORKLOADS, Workload
from uniemo.cache import atomic_write
from uniemo.models.encoder import ExpertQueryEncoder

PROFILES = Path(__file__).parent / "profiles"
Change = Callable[[Workload], AbstractContextManager[Any]]


def default(work: Workload) -> AbstractContextManager[Any]:
    """Change nothing."""
    return nullcontext()


def bf16(work: Workload) -> AbstractContextManager[Any]:
    """Compute in mixed precision."""
    return torch.autocast("cpu", torch.bfloat16)


@contextmanager
def bf16_weights(work: Workload) -> Iterator[None]:
    """Hold a frozen network in half precision."""
    networks = work.networks["convolutions"]
    networks.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        yield
    networks.to(torch.float32)


def plain_attention(work: Workload) -> AbstractContextManager[Any]:
    """Make the map of attention weights."""
    return sdpa_kernel(SDPBackend.MATH)


@contextmanager
def channels_last(work: Workload) -> Iterator[None]:
    """Lay the weights of convolutions out so that pixels follow."""
    networks = work.networks["convolutions"]
    networks.to(memory_format=torch.channels_last)
    yield
    networks.to(memory_format=torch.contiguous_format)


@contextmanager
def checkpointing(work: Workload) -> Iterator[None]:
    """Compute activations again in the backward pass, block by block."""
    network = work.networks["checkpointed"]
    if isinstance(network, ExpertQueryEncoder):
        network.checkpointing = True
        yield
        network.checkpointing = False
    else:
        network.enable_gradient_checkpointing()
        yield
        network.disable_gradient_checkpointing()


@contextmanager
def other_adamw(work: Workload, **choice: bool) -> Iterator[None]:
    """Step with another implementation of AdamW; its averages are the default's."""
    assert work.optimizer is not None
    assert work.adamw is not None
    usual = work.adamw
    work.adamw = work.optimizer(**choice)
    work.adamw.state = usual.state
    yield
    work.adamw = usual


@contextmanager
def compiled(work: Workload) -> Iterator[None]:
    """Compile the networks; the first call within pays for it, the others find it done."""
    for network in work.networks["compiled"]:
        network.compile()
    yield
    for network in work.networks["compiled"]:
        network._compiled_call_impl = None


ADAMW: dict[str, Change] = {
    "fused AdamW": partial(other_adamw, fused=True),
    "foreach AdamW": partial(other_adamw, foreach=True),
}
CHANGES: dict[str, dict[str, Change]] = {
    "stage1": {"bf16": bf16, "plain attention": plain_attention, "checkpointing": checkpointing, **ADAMW},
    "miniature": {
        "bf16": bf16,
        "plain attention": plain_attention,
        "channels-last": channels_last,
        "checkpointing": checkpointing,
        **ADAMW,
    },
    "sd15": {
        "bf16": bf16_weights,
        "plain attention": plain_attention,
        "channels-last": channels_last,
        "checkpointing": checkpointing,
    },
    "vae": {"bf16": bf16_weights, "channels-last": channels_last},
}


def turn(work: Workload, change: Change) -> Turn:
    """Take one step with a change; making and undoing it does not count."""
    with change(work):
        clock = Clock()
        work.step()
        return clock.turn(work.samples)


def peak(work: Workload, change: Change) -> float:
    """Return the MiB that a step holds at its highest moment beside weights and AdamW's averages."""
    live = LiveBytes()
    averages = [list(state.values()) for state in work.adamw.state.values()] if work.adamw is not None else []
    with change(work):
        live.add([*work.model.parameters(), *work.model.buffers(), *averages])
        before = live.now
        with live:
            work.step()
    return (live.peak - before) / 2**20


def profiled(work: Workload, folder: Path, name: str) -> None:
    """Write the table of where a step's time goes."""
    work.step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work.step()
    table = found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60)
    head = f"{work.title}, one step, float32, {torch.get_num_threads()} threads\n{sentence(conditions())}\n\n"
    path = folder / f"{name}.txt"
    with atomic_write(path) as temporary:
        temporary.write_text(head + table + "\n", encoding="utf-8")
    print(f"{head}{table}\n{path}")


def measure(work: Workload, changes: dict[str, Change], repeats: int, warmup: int) -> Times:
    """Return times of all changes in turns, with the memory of each."""
    rounds = Rounds(repeats, warmup)
    work.step()  # makes AdamW's averages
    for name, change in changes.items():
        if name == "compiled":
            print(f"compiling: {turn(work, change).seconds:.0f} s", file=sys.stderr, flush=True)
        else:
            rounds.times.extra[name] = {"peak MiB": peak(work, change)}
    for _ in range(rounds.total):
        rounds.take({name: partial(turn, work, change) for name, change in changes.items()})
    return rounds.times


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = options(__doc__)
    parser.set_defaults(repeats=3)
    parser.add_argument("workload", choices=list(WORKLOADS), help="what to run")
    parser.add_argument("--batch", type=int, help="samples in a step (default: 32; of the diffusion model 1)")
    parser.add_argument("--compile", action="store_true", help="with torch.compile, which takes minutes first")
    parser.add_argument("--only", nargs="+", help="rows to measure beside the default")
    parser.add_argument("--profile", action="store_true", help="write where the time goes, and end")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    make, batch = WORKLOADS[given.workload]
    work = make(given.batch or batch)
    if given.profile:
        profiled(work, PROFILES, given.workload)
        return
    changes = {"default": default, **CHANGES[given.workload]} | ({"compiled": compiled} if given.compile else {})
    changes = {name: change for name, change in changes.items() if name == "default" or name in (given.only or changes)}
    times = measure(work, changes, given.repeats, given.warmup)
    ratios = [(name, "default") for name in changes if name != "default"]
    report(f"{work.title}, float32", times, ratios, given.json, {"batch": work.samples})


if __name__ == "__main__":
    main()
