"""What every speed benchmark here shares: ways of doing one thing, timed in turns beside each other.

A machine is never quite idle, so that two ways timed one after the other meet different weather. Here they take turns
(A B A B …): each turn handles some samples, seconds per sample are taken by turn, and two ways are compared within each
round. The ratio's median over the rounds is what tables give, with the smallest and the largest.

    from benchmarks.timing import interleave, report

    given = options(__doc__).parse_args()  # --repeats, --warmup, --threads, --json
    torch.set_num_threads(given.threads)
    times = interleave({"floor": floor, "ours": ours}, given.repeats, given.warmup)
    report("stage 1, ViT-B/32", times, ratios=[("ours", "floor")], json_path=given.json)

``floor`` and ``ours`` are functions without arguments that return how many samples they handled; the clock runs around
them. One that knows better what belongs to the turn returns ``Turn(seconds, samples)``. A way that must have a process
of its own is a ``Child([sys.executable, "-m", "benchmarks.stage2", "--way", "ours"])``, and that process calls
``serve(way)``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.conditions import HERE, conditions, sentence
from benchmarks.tables import markdown, plain, tables
from uniemo.cache import atomic_write

__all__ = [
    "Child",
    "Clock",
    "Rounds",
    "Times",
    "Turn",
    "Way",
    "conditions",
    "interleave",
    "markdown",
    "one_turn",
    "options",
    "peak_memory",
    "plain",
    "report",
    "sentence",
    "serve",
    "spread",
    "write_json",
]


@dataclass(frozen=True)
class Turn:
    """What one turn took.

    Attributes:
        seconds: on the wall.
        samples: handled in it.
        processor: seconds of this process on all cores together; None where nobody looked.
    """

    seconds: float
    samples: int
    processor: float | None = None

    @property
    def per_sample(self) -> float:
        """Seconds per sample."""
        return self.seconds / self.samples


Way = Callable[[], "int | Turn"]


class Clock:
    """Runs from its making on."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def turn(self, samples: int) -> Turn:
        """Return what went by as a turn of so many samples."""
        return Turn(time.perf_counter() - self.wall, samples, time.process_time() - self.processor)


@dataclass
class Times:
    """Seconds per sample of each way, round by round.

    Attributes:
        seconds: by way, one value for each round.
        samples: of one turn, by way.
        processor: like ``seconds``, of all cores together; on a busy machine it holds still where the wall's does not.
            Loader workers and the GPU are not in it.
        where: machine, libraries, commit and date, see :func:`conditions`.
        extra: figures beside the time, by way: peak memory for example.
    """

    seconds: dict[str, list[float]]
    samples: dict[str, int]
    processor: dict[str, list[float]] = field(default_factory=dict)
    where: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, dict[str, float]] = field(default_factory=dict)

    def ratio(self, fast: str, slow: str, processor: bool = False) -> dict[str, float]:
        """Return how many times as fast ``fast`` is as ``slow``, with its spread over the rounds.

        Args:
            fast: name of a way.
            slow: name of another.
            processor: by the processor's time instead of the wall's.
        """
        values = self.processor if processor else self.seconds
        pairs = zip(values[fast], values[slow], strict=True)
        return spread([theirs / ours for ours, theirs in pairs])


class Rounds:
    """Takes turns of several ways and keeps what they took, the rounds of the warm-up left out.

    Args:
        repeats: rounds that count.
        warmup: rounds before them that do not.
        say: print each turn.
    """

    def __init__(self, repeats: int, warmup: int = 1, say: bool = True) -> None:
        self.total, self.warmup, self.say = repeats + warmup, warmup, say
        self.seen: dict[str, int] = {}
        self.times = Times({}, {}, {}, conditions())  # asked before the first turn: it holds the load that others make

    def add(self, name: str, turn: Turn) -> None:
        """Keep a turn of a way.

        Args:
            name: of the way.
            turn: what it took.
        """
        number = self.seen.get(name, 0) - self.warmup + 1
        self.seen[name] = self.seen.get(name, 0) + 1
        self.times.samples[name] = turn.samples
        kept, spent = (kind.setdefault(name, []) for kind in (self.times.seconds, self.times.processor))
        if number > 0:
            kept.append(turn.per_sample)
            if turn.processor is not None:
                spent.append(turn.processor / turn.samples)
        if self.say:
            title = f"round {number}" if number > 0 else "warm-up"
            print(f"{title}: {name}, {turn.per_sample:.4g} s per sample", file=sys.stderr, flush=True)

    def take(self, ways: Mapping[str, Way]) -> None:
        """Let each way do one turn."""
        for name, way in ways.items():
            self.add(name, one_turn(way))


def interleave(ways: Mapping[str, Way], repeats: int = 5, warmup: int = 1, say: bool = True) -> Times:
    """Time the ways in turns.

    Args:
        ways: by name; each call does one turn, always the same work.
        repeats: rounds that count.
        warmup: rounds before them that do not.
        say: print each turn.
    """
    rounds = Rounds(repeats, warmup, say)
    for _ in range(rounds.total):
        rounds.take(ways)
    return rounds.times


def one_turn(way: Way) -> Turn:
    """Call a way once, the clock around it unless it brings its own."""
    clock = Clock()
    done = way()
    return done if isinstance(done, Turn) else clock.turn(done)


class Child:
    """A way that lives in a process of its own and waits there for its turns; see :func:`serve`.

    Args:
        words: the command that starts it.
        environment: variables added to this process's.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.words = list(words)
        variables = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables, cwd=HERE.parent
        )

    def __call__(self) -> Turn:
        """Let it do one turn."""
        return Turn(**self._ask("turn"))

    def figures(self) -> dict[str, float]:
        """Return its figures beside the time and end it."""
        found = self._ask("end")
        self.process.communicate()
        return found

    def _ask(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended, as the next lines find
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
            sys.stderr.write(line)
        raise RuntimeError(f"a way's process ended with code {self.process.wait()}: {self.words}")


def serve(way: Way, figures: Callable[[], dict[str, float]] | None = None) -> None:
    """Do a turn for each line that a :class:`Child` sends, until it has enough.

    Args:
        way: does one turn.
        figures: asked once at the end; None gives the peak of the resident memory.
    """
    for line in sys.stdin:
        answer = vars(one_turn(way)) if line.strip() == "turn" else (figures or peak_memory)()
        print(json.dumps(answer), flush=True)


def peak_memory() -> dict[str, float]:
    """Return this process's largest resident memory so far, in MiB."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest, largest and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "deviation": deviation}


def report(
    title: str,
    times: Times,
    ratios: Sequence[tuple[str, str]] = (),
    json_path: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Print times and ratios as text and as Markdown, write JSON if asked, and return what was written.

    Args:
        title: what was measured.
        times: of :func:`interleave`.
        ratios: pairs (fast, slow) to compare round by round.
        json_path: file to write.
        settings: what else a reader must know: batch, shapes, precision.
    """
    both = [pair for pair in ratios if all(times.processor.get(name) for name in pair)]
    result = {
        "title": title,
        "conditions": times.where,
        "settings": dict(settings or {}),
        "samples per turn": times.samples,
        "seconds per sample": {name: {**spread(values), "rounds": values} for name, values in times.seconds.items()},
        "processor seconds per sample": {name: spread(values) for name, values in times.processor.items() if values},
        "times as fast": {f"{fast} : {slow}": times.ratio(fast, slow) for fast, slow in ratios},
        "times as fast by the processor": {f"{fast} : {slow}": times.ratio(fast, slow, True) for fast, slow in both},
        "extra": times.extra,
    }
    shown, foot = tables(result), sentence(times.where)
    print("\n\n".join([title, *map(plain, shown), foot, *map(markdown, shown)]))
    if json_path is not None:
        write_json(json_path, result)
    return result


def write_json(path: Path, result: Any) -> None:  # noqa: ANN401
    """Write a result atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what all speed benchmarks ask for: rounds, warm-up, threads, JSON file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write")
    return parser
