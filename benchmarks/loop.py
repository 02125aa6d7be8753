"""Measure the whole loop on the miniature: three seeds, mean and spread, into benchmarks/README.md and README.md.

Each seed runs `make demo`'s script and, beside it, what the results are to be held against: a linear probe, the model
without queries, one learned token per emotion (textual inversion), fusion of the class token alone, and captions drawn
from the table.
Finished parts are not run again: an interrupted measurement goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from baselines import caption_prompts, linear_probe, textual_inversion
from figures import checkpoint_bytes, score_images, score_real
from report import write_miniature, write_reports

from uniemo.cache import atomic_write

HERE = Path(__file__).parent
PROGRAMS = Path(sys.executable).parent
STAGES = ("understanding", "joint", "feedback")


def uniemo(*words: str | Path) -> None:
    """Run the command line in a process of its own, as a user would."""
    subprocess.run([str(PROGRAMS / "uniemo"), *map(str, words)], check=True)


def fit(config: str, run: Path, seed: int, *words: str | Path) -> Path:
    """Train a stage unless it was trained before; returns its best checkpoint."""
    done = run / "fitted"
    if not done.is_file():
        uniemo("fit", "--config", config, "--run_dir", run, "--seed_everything", str(seed), *words)
        done.touch()
    return run / "best.ckpt"


def test(checkpoint: Path, run: Path) -> dict[str, float]:
    """Test a checkpoint unless it was tested before; returns its figures."""
    if not (run / "test.json").is_file():
        uniemo("test", "--ckpt", checkpoint, "--run_dir", run)
    return json.loads((run / "test.json").read_text())


def demo(work: Path, seed: int) -> dict[str, float]:
    """Run the demo unless it was run before; returns its wall time and what its tests found."""
    run, clock = work / "demo", work / "demo_seconds"
    if not (run / "demo.png").is_file():
        start = time.monotonic()
        environment = os.environ | {"BIN": str(PROGRAMS), "RUN": str(run), "SEED": str(seed)}
        subprocess.run(["bash", str(HERE / "demo.sh")], check=True, env=environment)
        clock.write_text(f"{time.monotonic() - start:.0f}")
    figures = {"demo wall time [s]": float(clock.read_text())} if clock.is_file() else {}
    for stage in STAGES:
        tested = json.loads((run / f"test-{stage}" / "test.json").read_text())
        figures[f"accuracy/{stage}"] = tested["test/accuracy"]
        figures["attention/area"] = tested["test/coverage/area"]
        for kind in ("scene", "object"):
            figures[f"attention/{stage}/{kind}"] = tested[f"test/coverage/{kind}"]
        figures[f"checkpoint/{stage}"] = checkpoint_bytes(run / stage / "best.ckpt")
    return figures


def no_queries(work: Path, seed: int) -> dict[str, float]:
    """Stage 1 without expert queries, everything else equal."""
    run = work / "no-queries"
    checkpoint = fit("understanding.yaml", run, seed, "--model.encoder.queries", "none")
    return {"accuracy/no queries": test(checkpoint, run / "test")["test/accuracy"]}


def cls_only(work: Path, seed: int) -> Path:
    """Joint training whose fusion takes the class token alone, from the demo's stage 1."""
    start = work / "demo" / "understanding" / "best.ckpt"
    run = work / "cls-only"
    fit("joint.yaml", run, seed, "--model.init_from", start, "--model.fusion.tokens", '["cls"]')
    return run / "best.ckpt"


def measure(work: Path, seed: int, per_emotion: int) -> None:
    """Find all figures of one seed and keep them in its ``figures.json``, part by part.

    Args:
        work: folder of this seed.
        seed: of everything.
        per_emotion: images generated per emotion and method.
    """
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "commit").is_file():
        (work / "commit").write_text(commit())
    joint, feedback = (work / "demo" / stage / "best.ckpt" for stage in ("joint", "feedback"))

    def images(checkpoint: Path, **options: Any) -> dict[str, float]:  # noqa: ANN401
        return score_images(checkpoint, per_emotion, seed, **options)

    parts: dict[str, Callable[[], dict[str, float]]] = {
        "demo": lambda: demo(work, seed),
        "probe": lambda: {"accuracy/linear probe": linear_probe(seed)},
        "real": lambda: score_real(per_emotion, seed),
        "bank": lambda: images(joint),
        "gaussian": lambda: images(joint, kind="gaussian"),
        "captions": lambda: images(joint, prompts=caption_prompts(per_emotion, seed)),
        "no queries": lambda: no_queries(work, seed),
        "textual inversion": lambda: images(joint, tokens=textual_inversion(joint, work / "tokens.pt", seed)),
        "feedback, bank": lambda: images(feedback),
        "cls only": lambda: images(cls_only(work, seed)),
    }
    known = read_figures(work)
    for name, part in parts.items():
        if name not in known:
            known[name] = part()
            with atomic_write(work / "figures.json") as path:
                path.write_text(json.dumps(known, indent=1))
            print(
                f"seed {seed}, {name}: { ({key: round(value, 3) for key, value in known[name].items()}) }", flush=True
            )


def read_figures(work: Path) -> dict[str, dict[str, float]]:
    """Return a seed's figures by part, empty when there are none yet."""
    path = work / "figures.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def flat(parts: dict[str, dict[str, float]]) -> dict[str, float]:
    """Name each figure after its part, but those of trained stages after themselves."""
    return {
        key if name in ("demo", "probe", "no queries") else f"{name}/{key}": value
        for name, figures in parts.items()
        for key, value in figures.items()
    }


def commit() -> str:
    """Name the commit at hand."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()

    dirty = " with uncommitted changes" if git("status", "--porcelain", "../uniemo", "../configs") else ""
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{dirty}"


def machine(works: list[Path]) -> str:
    """Describe the machine, the libraries and the commits that the seeds' runs were made with."""
    import lightning
    import torch

    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    commits = sorted({(work / "commit").read_text() for work in works if (work / "commit").is_file()})
    return (
        f"{os.cpu_count()} cores of {name}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"lightning {lightning.__version__}, commit {', '.join(commits) or 'unknown'}"
    )


def main() -> None:
    """Measure the seeds asked for and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="where runs go (default: %(default)s)")
    parser.add_argument(
        "--per-emotion", type=int, default=32, help="images per emotion and method (default: %(default)s)"
    )
    parser.add_argument("--report", action="store_true", help="write the tables from what is there, run nothing")
    arguments = parser.parse_args()
    if not arguments.report:
        for seed in arguments.seeds:
            measure(arguments.work / f"seed{seed}", seed, arguments.per_emotion)
    works = [arguments.work / f"seed{seed}" for seed in arguments.seeds]
    every = [flat(read_figures(work)) for work in works]
    summary = {}
    for key in dict.fromkeys(key for run in every for key in run):
        values = [run[key] for run in every if key in run]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[key] = {"mean": statistics.mean(values), "spread": spread, "values": values}
    record = {
        "machine": machine(works),
        "seeds": arguments.seeds,
        "per_emotion": arguments.per_emotion,
        "figures": summary,
    }
    (HERE / "loop.json").write_text(json.dumps(record, indent=1) + "\n")
    write_miniature()
    write_reports(record)


if __name__ == "__main__":
    main()
