"""``uniemo cross-validate``: fit and test on every fold, mean and spread over folds."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

from uniemo import __version__
from uniemo.cache import check_unlocked, hash_file, lock_folder, write_json
from uniemo.cli.arguments import find_config
from uniemo.cli.parsing import Parser, check_writable, number
from uniemo.errors import Folds, UniEmoError
from uniemo.text_files import read_json

_HEADLINES = (  # the metrics on screen, as far as they are there
    *("test/accuracy", "test/balanced_accuracy"),
    *("test/ccc_valence", "test/ccc_arousal"),
    *("test/chebyshev", "test/clark", "test/canberra", "test/kl", "test/cosine", "test/intersection"),
)
_STATE, _RESULTS = "cross_validate.json", "results.json"
_DESCRIPTION = """Train and test on every fold of a dataset, and report mean and standard deviation over folds.

Fold k is trained as uniemo fit would with --data.fold k, in <run_dir>/foldk; all options that are not below go to
uniemo fit unchanged. Started again with the same options, it goes on where it stopped; finished folds are not rerun.
Folds given by the dataset are used where there are any, else seeded, stratified ones (--data.folds follows --folds)."""
_EXAMPLES = """example:
  uniemo cross-validate --config understanding.yaml --config data/twitter1.yaml --data.root /data/twitter1
  uniemo cross-validate --config understanding.yaml --config data/flickr_ldl.yaml --data.target distribution
"""
_TAKEN = {
    "--data.fold": "leave it out: every fold is run",
    "--data.folds": "say --folds",
    "--fold": "say --folds, or run one fold with uniemo fit --data.fold",
    "--resume": "leave it out: a started cross-validation goes on by itself",
    "--ckpt": "start each fold with --model.init_from",
    "--ckpt_path": "start each fold with --model.init_from",
}


def run(args: list[str]) -> int:
    """Cross-validate; ``args`` begin with the command."""
    parser = Parser("uniemo cross-validate", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--folds", type=number(Folds), default=5, help="how many (5)")
    parser.add_argument("--run_dir", type=Path, default=Path("runs/cv"), help="folder of the folds' runs (runs/cv)")
    parser.add_argument("--overwrite", action="store_true", help="start again in a folder that holds another one")
    options, rest = parser.parse_known_args(args[1:])
    for arg in rest:
        name = arg.partition("=")[0]
        if name in _TAKEN:
            raise UniEmoError(f"uniemo cross-validate takes no {name}; {_TAKEN[name]}")
    job = Job(options.run_dir.expanduser(), options.folds, rest)
    check_writable(job.run_dir, "--run_dir")
    check_unlocked(job.run_dir, "--run_dir")
    job.settle(options.overwrite)
    left = [fold for fold in range(1, job.folds + 1) if options.overwrite or not job.metrics_file(fold).is_file()]
    if left:
        check_folds(job)
    with lock_folder(job.run_dir, "--run_dir"):
        if left:
            job.start(options.overwrite)
        for fold in left:
            code = _run_fold(job, fold)
            if code != 0:
                return code
        return _close(job)


@dataclass
class Job:
    """A cross-validation on disk.

    Attributes:
        run_dir: its folder.
        folds: how many.
        args: options for ``uniemo fit``.
        fitted: folds that are trained.
    """

    run_dir: Path
    folds: int
    args: list[str]
    fitted: list[int] = field(default_factory=list)

    def folder(self, fold: int) -> Path:
        """Return the run folder of a fold."""
        return self.run_dir / f"fold{fold}"

    def metrics_file(self, fold: int) -> Path:
        """Return the file that the test of a fold writes at its end."""
        return self.folder(fold) / "test.json"

    def fit_args(self, fold: int, run_dir: Path | None = None) -> list[str]:
        """Return the arguments of ``uniemo fit`` for a fold."""
        folder = self.folder(fold) if run_dir is None else run_dir
        return ["fit", *self.args, f"--data.fold={fold}", f"--data.folds={self.folds}", f"--run_dir={folder}"]

    def about(self) -> dict[str, Any]:
        """Return what must be the same for a cross-validation to go on: options and configuration files."""
        parser = Parser("uniemo fit", "")
        parser.add_argument("-c", "--config", action="append", default=[])
        names = parser.parse_known_args(self.args)[0].config
        digests = {name: hash_file(find_config(name), 12) for name in names}
        return {"folds": self.folds, "words": self.args, "configs": digests}

    def settle(self, overwrite: bool) -> None:
        """Find out what is done already; refuse a folder that holds something else."""
        about, state = self.about(), self.run_dir / _STATE
        if overwrite or not self.run_dir.exists():
            return
        if not state.is_file():
            if not self.run_dir.is_dir() or any(self.run_dir.iterdir()):
                raise UniEmoError(
                    f"--run_dir must be new, empty or a cross-validation; {self.run_dir} is not: give another --run_dir"
                )
            return
        try:
            before = read_json(state)
            self.fitted = list(before["fitted"])
        except (ValueError, KeyError, TypeError) as error:
            raise UniEmoError(f"{state} must be what cross-validate wrote; it is not: add --overwrite") from error
        for key, value in about.items():
            if before.get(key) != value:
                raise UniEmoError(
                    f"--run_dir must be that of the same options; {self.run_dir} was started with other {key} "
                    f"({shorten(str(before.get(key)), 120)}): give another --run_dir, or --overwrite to start again"
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
        write_json(self.run_dir / _STATE, state)


def check_folds(job: Job) -> None:
    """Build everything and look at the data of every fold, so that mistakes show before the first one starts."""
    import gc

    from uniemo.cli.arguments import prepare
    from uniemo.cli.training import TrainingCLI, quiet
    from uniemo.data.manifest import SPLITS

    class SmokeTest(TrainingCLI):
        """Build model, data and trainer of fold 1 and check the data of all folds; train nothing and write nothing."""

        def after_instantiate_classes(self) -> None:
            super().after_instantiate_classes()
            arguments = self.config.fit.data.init_args.as_dict()
            for fold in range(1, job.folds + 1):
                type(self.datamodule)(**{**arguments, "fold": fold}).check(SPLITS)

        def _run_subcommand(self, subcommand: str) -> None:
            pass

    quiet()
    args, checkpoint = prepare(job.fit_args(1, job.run_dir / "smoke_test"))
    try:
        SmokeTest(args, checkpoint)
    except UniEmoError as error:
        if "'data.fold'" not in str(error) and "'data.folds'" not in str(error):
            raise
        raise UniEmoError(
            "cross-validate needs data with folds; the configuration's data module takes no data.fold: "
            "add for example --config data/twitter1.yaml or data/flickr_ldl.yaml"
        ) from error
    gc.collect()  # the model that was built


def _run_fold(job: Job, fold: int) -> int:
    """Train and test one fold; return 0 or the exit code of what failed."""
    folder = job.folder(fold)
    print(f"\nfold {fold} of {job.folds}, {folder}", flush=True)
    best = folder / "best.ckpt"
    if fold not in job.fitted or not best.is_file():
        args = job.fit_args(fold)
        if (folder / "last.ckpt").is_file() and fold not in job.fitted:
            args.append("--resume=true")
        elif folder.exists():
            args.append("--overwrite=true")  # it stopped before it wrote a checkpoint
        code = run_command(args)
        if code != 0:
            return code
        if not best.is_file():
            raise UniEmoError(f"cross-validate needs {best}; the run wrote none: leave enable_checkpointing true")
        job.fitted = sorted({*job.fitted, fold})
        job.save()
    return run_command(["test", "--ckpt", str(best)])


def run_command(args: list[str]) -> int:
    """Run ``uniemo`` in a process of its own, which leaves nothing behind for the next fold; return its exit code."""
    with subprocess.Popen([sys.executable, "-m", "uniemo", *args]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # it got the signal too and is writing its checkpoint; a second Ctrl-C ends both
            raise


def _close(job: Job) -> int:
    """Print the table and write the results."""
    by_fold = [json.loads(job.metrics_file(fold).read_bytes()) for fold in range(1, job.folds + 1)]
    summary = summarise(by_fold)
    results = {
        **job.about(),
        "version": __version__,
        "figures": summary,
        "by_fold": [
            {"fold": fold, "run_dir": str(job.folder(fold)), "figures": metrics}
            for fold, metrics in enumerate(by_fold, 1)
        ],
    }
    write_json(job.run_dir / _RESULTS, results)
    print(f"\n{table(by_fold, summary)}\n\nresults in {job.run_dir / _RESULTS}")
    return 0


def summarise(by_fold: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    """Return mean and sample standard deviation over folds of each metric that every fold has."""
    shared = [name for name in by_fold[0] if all(isinstance(metrics.get(name), int | float) for metrics in by_fold)]
    summary = {}
    for name in shared:
        values = [float(metrics[name] or 0.0) for metrics in by_fold]
        summary[name] = {"mean": statistics.mean(values), "std": statistics.stdev(values)}
    return summary


def table(by_fold: Sequence[Mapping[str, float | None]], summary: Mapping[str, Mapping[str, float]]) -> str:
    """Lay out the headline metrics, a line for each fold and one for mean ± standard deviation."""
    names = [name for name in _HEADLINES if name in summary]
    titles = [name.partition("/")[2].replace("_", " ") for name in names]
    widths = [max(len(title), 15) for title in titles]
    lines = ["fold  " + "  ".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True))]
    for fold, metrics in enumerate(by_fold, 1):
        cells = (f"{metrics[name]:>{width}.4f}" for name, width in zip(names, widths, strict=True))
        lines.append(f"{fold:<4}  " + "  ".join(cells))
    spreads = (f"{summary[name]['mean']:.4f} ± {summary[name]['std']:.4f}" for name in names)
    cells = (f"{text:>{width}}" for text, width in zip(spreads, widths, strict=True))
    return "\n".join([*lines, "mean  " + "  ".join(cells), "± is the standard deviation over folds (n - 1)"])
