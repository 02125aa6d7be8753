"""``uniemo cross-validate``: fit and test on every fold, mean and spread over folds."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uniemo import __version__
from uniemo.cache import atomic_write
from uniemo.cli.configs import find_config
from uniemo.cli.parsing import Parser, positive
from uniemo.errors import UniEmoError

_HEADLINES = ("test/accuracy", "test/balanced_accuracy")  # the figures on screen, as far as they are there
_STATE, _RESULTS = "cross_validate.json", "results.json"
_DESCRIPTION = """Train and test on every fold of Twitter I or II, and report mean and standard deviation over folds.

Fold k is trained as uniemo fit would with --data.fold k, in <run_dir>/foldk; all options that are not below go to
uniemo fit unchanged. Started again with the same options, it goes on where it stopped; finished folds are not rerun.
Folds given by the dataset are used where there are any, else seeded, stratified ones (--data.folds follows --folds)."""
_EXAMPLES = """example:
  uniemo cross-validate --config understanding.yaml --config data/twitter1.yaml --data.root /data/twitter1
"""
_TAKEN = {
    "--data.fold": "leave it out: every fold is run",
    "--data.folds": "say --folds",
    "--fold": "say --folds, or run one fold with uniemo fit --data.fold",
    "--resume": "leave it out: a started cross-validation goes on by itself",
    "--ckpt": "start each fold with --model.init_from",
    "--ckpt_path": "start each fold with --model.init_from",
}


def run(words: list[str]) -> int:
    """Cross-validate; ``words`` begin with the command."""
    own, rest = _divide(words[1:])
    parser = Parser("uniemo cross-validate", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--folds", type=_folds, default=5, help="how many (5)")
    parser.add_argument("--run_dir", type=Path, default=Path("runs/cv"), help="folder of the folds' runs (runs/cv)")
    parser.add_argument("--overwrite", action="store_true", help="start again in a folder that holds another one")
    options = parser.parse_words(own)
    for word in rest:
        name = word.partition("=")[0]
        if name in _TAKEN:
            raise UniEmoError(f"uniemo cross-validate takes no {name}; {_TAKEN[name]}")
    job = Job(options.run_dir.expanduser(), options.folds, rest)
    job.settle(options.overwrite)
    left = [fold for fold in range(1, job.folds + 1) if options.overwrite or not job.figures_file(fold).is_file()]
    if left:
        rehearse(job)
        job.start(options.overwrite)
    for fold in left:
        code = _run_fold(job, fold)
        if code != 0:
            return code
    return _close(job)


def _divide(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words for this command and those for ``uniemo fit``."""
    own: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        name, equals, _ = word.partition("=")
        length = 2 if name in ("--folds", "--run_dir") and not equals else 1
        (own if name in ("--folds", "--run_dir", "--overwrite", "-h", "--help") else rest).extend(
            words[position : position + length]
        )
        position += length
    return own, rest


def _folds(text: str) -> int:
    """Read a number of folds (an argparse type)."""
    value = positive(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2; got {text}")
    return value


@dataclass
class Job:
    """A cross-validation on disk.

    Attributes:
        run_dir: its folder.
        folds: how many.
        words: options for ``uniemo fit``.
        fitted: folds that are trained.
    """

    run_dir: Path
    folds: int
    words: list[str]
    fitted: list[int] = field(default_factory=list)

    def folder(self, fold: int) -> Path:
        """Return the run folder of a fold."""
        return self.run_dir / f"fold{fold}"

    def figures_file(self, fold: int) -> Path:
        """Return the file that the test of a fold writes at its end."""
        return self.folder(fold) / "test.json"

    def fit_words(self, fold: int, run_dir: Path | None = None) -> list[str]:
        """Return the words of ``uniemo fit`` for a fold."""
        folder = self.folder(fold) if run_dir is None else run_dir
        return ["fit", *self.words, f"--data.fold={fold}", f"--data.folds={self.folds}", f"--run_dir={folder}"]

    def about(self) -> dict[str, Any]:
        """Return what must be the same for a cross-validation to go on: options and configuration files."""
        names = []
        for position, word in enumerate(self.words):
            name, equals, value = word.partition("=")
            if name in ("-c", "--config"):
                names.append(value if equals else "".join(self.words[position + 1 : position + 2]))
        digests = {name: hashlib.sha256(find_config(name).read_bytes()).hexdigest()[:12] for name in names}
        return {"folds": self.folds, "words": self.words, "configs": digests}

    def settle(self, overwrite: bool) -> None:
        """Find out what is done already; refuse a folder that holds something else.

        Raises:
            UniEmoError: the folder holds another cross-validation, or other things.
        """
        about = self.about()
        state = self.run_dir / _STATE
        if overwrite or not self.run_dir.exists():
            return
        if not self.run_dir.is_dir():
            raise UniEmoError(f"--run_dir must be a folder; {self.run_dir} is a file: give another --run_dir")
        if not state.is_file():
            if any(self.run_dir.iterdir()):
                raise UniEmoError(
                    f"--run_dir must be new, empty or a cross-validation; {self.run_dir} is not: give another --run_dir"
                )
            return
        try:
            before = json.loads(state.read_bytes())
            self.fitted = list(before["fitted"])
        except (ValueError, KeyError, TypeError) as error:
            raise UniEmoError(f"{state} must be what cross-validate wrote; it is not: add --overwrite") from error
        for key, value in about.items():
            if before.get(key) != value:
                raise UniEmoError(
                    f"--run_dir must be that of the same options; {self.run_dir} was started with other {key} "
                    f"({_short(before.get(key))}): give another --run_dir, or --overwrite to start again"
                )

    def start(self, overwrite: bool) -> None:
        """Write down what is being run; with ``overwrite`` the folds of before go."""
        if overwrite:
            for folder in self.run_dir.glob("fold*"):
                if (self.run_dir / _STATE).is_file() and folder.name.removeprefix("fold").isdigit():
                    shutil.rmtree(folder)
            (self.run_dir / _RESULTS).unlink(missing_ok=True)
        self.save()

    def save(self) -> None:
        """Write the state."""
        state = {**self.about(), "fitted": self.fitted, "version": __version__}
        _write_json(self.run_dir / _STATE, state)


def _short(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"


def rehearse(job: Job) -> None:
    """Build everything and look at the data of every fold, so that mistakes show before the first one starts.

    Raises:
        UniEmoError: whatever ``uniemo fit`` would refuse.
    """
    import gc

    from uniemo.cli.rehearsal import Rehearsal
    from uniemo.cli.training import quiet
    from uniemo.cli.words import prepare

    quiet()
    words, checkpoint = prepare(job.fit_words(1, job.run_dir / "rehearsal"))
    try:
        Rehearsal(words, checkpoint, job.folds)
    except UniEmoError as error:
        if "'data.fold'" not in str(error) and "'data.folds'" not in str(error):
            raise
        raise UniEmoError(
            "cross-validate needs data with folds, TwitterI or TwitterII; the configuration names other data: "
            "add --config data/twitter1.yaml or data/twitter2.yaml"
        ) from error
    gc.collect()  # the model that was built


def _run_fold(job: Job, fold: int) -> int:
    """Train and test one fold; return 0 or the exit code of what failed."""
    folder = job.folder(fold)
    print(f"\nfold {fold} of {job.folds}, {folder}", flush=True)
    best = folder / "best.ckpt"
    if fold not in job.fitted or not best.is_file():
        words = job.fit_words(fold)
        if (folder / "last.ckpt").is_file() and fold not in job.fitted:
            words.append("--resume=true")
        elif folder.exists():
            words.append("--overwrite=true")  # it stopped before it wrote a checkpoint
        code = run_command(words)
        if code != 0:
            return code
        if not best.is_file():
            raise UniEmoError(f"cross-validate needs {best}; the run wrote none: leave enable_checkpointing true")
        job.fitted = sorted({*job.fitted, fold})
        job.save()
    return run_command(["test", "--ckpt", str(best)])


def run_command(words: list[str]) -> int:
    """Run ``uniemo`` in a process of its own, which leaves nothing behind for the next fold; return its exit code."""
    with subprocess.Popen([sys.executable, "-m", "uniemo", *words]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # it got the signal too and is writing its checkpoint; a second Ctrl-C ends both
            raise


def _close(job: Job) -> int:
    """Print the table and write the results."""
    by_fold = [json.loads(job.figures_file(fold).read_bytes()) for fold in range(1, job.folds + 1)]
    summary = summarise(by_fold)
    results = {
        **job.about(),
        "version": __version__,
        "figures": summary,
        "by_fold": [
            {"fold": number, "run_dir": str(job.folder(number)), "figures": figures}
            for number, figures in enumerate(by_fold, 1)
        ],
    }
    _write_json(job.run_dir / _RESULTS, results)
    print(f"\n{table(by_fold, summary)}\n\nresults in {job.run_dir / _RESULTS}")
    return 0


def summarise(by_fold: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    """Return mean and sample standard deviation over folds of each figure that every fold has."""
    shared = [name for name in by_fold[0] if all(figures.get(name) is not None for figures in by_fold)]
    summary = {}
    for name in shared:
        values = [float(figures[name] or 0.0) for figures in by_fold]
        summary[name] = {"mean": statistics.mean(values), "std": statistics.stdev(values)}
    return summary


def table(by_fold: Sequence[Mapping[str, float | None]], summary: Mapping[str, Mapping[str, float]]) -> str:
    """Lay out the headline figures, a line for each fold and one for mean ± standard deviation."""
    names = [name for name in _HEADLINES if name in summary]
    titles = [name.partition("/")[2].replace("_", " ") for name in names]
    widths = [max(len(title), 15) for title in titles]
    lines = ["fold  " + "  ".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True))]
    for number, figures in enumerate(by_fold, 1):
        cells = (f"{figures[name]:>{width}.4f}" for name, width in zip(names, widths, strict=True))
        lines.append(f"{number:<4}  " + "  ".join(cells))
    spreads = (f"{summary[name]['mean']:.4f} ± {summary[name]['std']:.4f}" for name in names)
    cells = (f"{text:>{width}}" for text, width in zip(spreads, widths, strict=True))
    return "\n".join([*lines, "mean  " + "  ".join(cells), "± is the standard deviation over folds (n - 1)"])


def _write_json(path: Path, value: object) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
