"""How long the command line takes to answer: ``uniemo --help``, one image, and one step of ``fit`` and ``test``.

    python -m benchmarks.start_command --json benchmarks/start_command.json    # four minutes
    python -m benchmarks.start_command --evict                                 # also with the files out of memory
    python -m benchmarks.start_command --other ../before                       # beside another checkout

Every turn is a fresh process of Python; the commands take turns. Beside seconds on the wall stand the processors',
which other work disturbs less. One image is classified with a checkpoint of joint training on the miniature; training
and test are of the understanding stage. *Empty cache* means that ``UNIEMO_CACHE`` names a new folder each time:
classifying needs nothing from it.

A process is cold, the file system's page cache is not: it cannot be dropped without being root. ``--evict`` asks the
system to forget the files of the installed packages before each turn; it does not forget what another process has
mapped. How much was then read from the disk is in the table, so that a reader sees what came of it.

At the end one more start under ``-X importtime`` tells which packages the time goes to: the sum of each package's own
modules, and the modules of which it takes longest until they are imported with everything they import.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.conditions import HERE
from benchmarks.short_run import SHORT, short_run
from benchmarks.timing import Turn, Way, interleave, options, report, spread, write_json
from uniemo.miniature.synthesis import synthesize_emoset

TARGETS = {"uniemo --help": 1.0, "uniemo classify": 4.0, "uniemo fit": 4.0, "uniemo test": 4.0}  # seconds
HELP, CLASSIFY, FIT, TEST = TARGETS
EMPTY, EVICTED = "uniemo classify, empty cache", "uniemo classify, files evicted"
_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| +(\S+)")


class Start:
    """A command that runs anew each turn.

    Args:
        words: of ``uniemo``.
        threads: of PyTorch.
        empty_cache: give it a new ``UNIEMO_CACHE`` each time.
        evict: folders whose files the system is asked to forget before.
        tree: checkout whose uniemo runs.
    """

    def __init__(
        self,
        words: Sequence[str],
        threads: int,
        empty_cache: bool = False,
        evict: Sequence[Path] = (),
        tree: Path = HERE.parent,
    ) -> None:
        self.words = [sys.executable, "-m", "uniemo", *words]
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(tree)}
        self.empty_cache = empty_cache
        self.evict = evict
        self.read: list[float] = []

    def __call__(self) -> Turn:
        """Run it once."""
        for folder in self.evict:
            forget(folder)
        with tempfile.TemporaryDirectory() as empty:
            environment = self.environment | ({"UNIEMO_CACHE": empty} if self.empty_cache else {})
            begin = time.perf_counter()
            process = subprocess.Popen(self.words, env=environment, cwd=empty, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(self.words)} ended with code {process.returncode}")
        self.read.append(usage.ru_inblock * 512 / 2**20)
        return Turn(seconds, 1, usage.ru_utime + usage.ru_stime)


def forget(folder: Path) -> None:
    """Ask the system to drop a folder's files from its page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def import_profile(words: Sequence[str], modules: int = 12) -> dict[str, dict[str, float]]:
    """Return milliseconds of importing, by package and by module.

    Args:
        words: of ``uniemo``.
        modules: how many lines of each table.
    """
    command = [sys.executable, "-X", "importtime", "-m", "uniemo", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    own: dict[str, float] = {}
    whole: dict[str, float] = {}
    for microseconds, until, name in _LINE.findall(done.stderr):
        package = name.partition(".")[0]
        own[package] = own.get(package, 0.0) + int(microseconds) / 1000
        whole[name] = int(until) / 1000

    def top(times: dict[str, float]) -> dict[str, float]:
        return dict(sorted(times.items(), key=lambda item: -item[1])[:modules])

    return {"package, its own modules": top(own), "module, with what it imports": top(whole)}


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = options(__doc__)
    parser.add_argument("--ckpt", type=Path, help="checkpoint to classify with (default: one is trained for two steps)")
    parser.add_argument("--other", type=Path, help="another checkout, whose commands take turns with these")
    parser.add_argument("--evict", action="store_true", help="also with the packages' files out of the page cache")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        tree = synthesize_emoset(place / "tree", train=8, val=8, test=8)
        checkpoint = given.ckpt or short_run("joint", place / "joint")
        words = ["classify", "--ckpt", str(checkpoint), str(next(tree.glob("image/*/*.jpg")))]
        short = [*SHORT, "--run_dir", str(place / "run")]
        commands = {
            HELP: ["--help"],
            CLASSIFY: words,
            FIT: ["fit", "--config", "understanding.yaml", "--overwrite", *short],
            TEST: [
                "test",
                "--ckpt",
                str(short_run("understanding", place / "understanding")),
                "--trainer.limit_test_batches",
                "1",
                *short,
            ],
        }
        ways = {name: Start(command, given.threads) for name, command in commands.items()}
        ways[EMPTY] = Start(words, given.threads, empty_cache=True)
        pairs: list[tuple[str, str]] = []
        if given.other is not None:
            pairs = [(name, f"{name}, other checkout") for name in commands]
            ways |= {other: Start(commands[name], given.threads, tree=given.other.resolve()) for name, other in pairs}
        if given.evict:
            packages = Path(sysconfig.get_path("purelib"))
            ways[EVICTED] = Start(words, given.threads, evict=[packages, checkpoint.parent])
        timed: dict[str, Way] = dict(ways)
        times = interleave(timed, given.repeats, given.warmup)
        profile = import_profile(words)
    times.extra = {
        name: {
            "processor time [s]": spread(times.processor[name])["median"],
            "read from disk [MiB]": spread(way.read[-given.repeats :])["median"],
        }
        for name, way in ways.items()
    }
    settings = {"torch threads of this process": torch.get_num_threads()}
    result = report("start of the command line", times, pairs, settings=settings)
    result["targets [s]"] = {
        name: {"target": target, "median": spread(times.seconds[name])["median"]} for name, target in TARGETS.items()
    }
    result["imports of uniemo classify [ms]"] = profile
    print(json.dumps(result["targets [s]"]))
    for title, table in profile.items():
        print(f"\n{title} [ms]")
        print("\n".join(f"  {milliseconds:8.1f}  {name}" for name, milliseconds in table.items()))
    if given.json is not None:
        write_json(given.json, result)


if __name__ == "__main__":
    main()
