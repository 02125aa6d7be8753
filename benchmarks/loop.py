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
from pathlib import Path

from baselines import caption_prompts, linear_probe, textual_inversion
from figures import checkpoint_bytes, score_images, score_real
from report import write_reports

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


def demo(run: Path, seed: int) -> float:
    """Run the demo unless it was run before; returns its wall time in seconds."""
    clock = run.parent / "demo_seconds"
    if not clock.is_file():
        start = time.monotonic()
        environment = os.environ | {"BIN": str(PROGRAMS), "RUN": str(run), "SEED": str(seed)}
        subprocess.run(["bash", str(HERE / "demo.sh")], check=True, env=environment)
        clock.write_text(f"{time.monotonic() - start:.0f}")
    return float(clock.read_text())


def measure(work: Path, seed: int, per_emotion: int) -> dict[str, float]:
    """Return all figures of one seed.

    Args:
        work: folder of this seed.
        seed: of everything.
        per_emotion: images generated per emotion and method.
    """
    result = work / "figures.json"
    if result.is_file():
        return json.loads(result.read_text())
    figures = {"demo wall time [s]": demo(work / "demo", seed)}
    checkpoints = {stage: work / "demo" / stage / "best.ckpt" for stage in STAGES}
    for stage in STAGES:
        tested = json.loads((work / "demo" / f"test-{stage}" / "test.json").read_text())
        figures[f"accuracy/{stage}"] = tested["test/accuracy"]
        for kind in ("scene", "object"):
            figures[f"attention/{stage}/{kind}"] = tested[f"test/coverage/{kind}"]
        figures["attention/area"] = tested["test/coverage/area"]
        figures[f"checkpoint/{stage}"] = checkpoint_bytes(checkpoints[stage])
    no_queries = fit("understanding.yaml", work / "no-queries", seed, "--model.encoder.queries", "none")
    figures["accuracy/no queries"] = test(no_queries, work / "no-queries" / "test")["test/accuracy"]
    figures["accuracy/linear probe"] = linear_probe(seed)

    joint = checkpoints["joint"]
    cls_only = fit(
        "joint.yaml",
        work / "cls-only",
        seed,
        "--model.init_from",
        checkpoints["understanding"],
        "--model.fusion.tokens",
        '["cls"]',
    )
    tokens = textual_inversion(joint, work / "textual-inversion.pt", seed)
    figures |= {f"real/{key}": value for key, value in score_real(per_emotion, seed).items()}
    methods = {
        "bank": (joint, {"kind": "bank"}),
        "gaussian": (joint, {"kind": "gaussian"}),
        "cls only": (cls_only, {"kind": "bank"}),
        "textual inversion": (joint, {"tokens": tokens}),
        "captions": (joint, {"prompts": caption_prompts(per_emotion, seed)}),
        "feedback, bank": (checkpoints["feedback"], {"kind": "bank"}),
    }
    for name, (checkpoint, options) in methods.items():
        scores = score_images(checkpoint, per_emotion, seed, **options)  # type: ignore[arg-type]
        figures |= {f"{name}/{key}": value for key, value in scores.items()}
        print(
            f"seed {seed} {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in scores.items() if "/" not in key)
        )
    result.write_text(json.dumps(figures, indent=1))
    return figures


def machine() -> str:
    """Describe the machine, the libraries and the commit."""
    import lightning
    import torch

    name = (
        next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if "model name" in line
            ),
            platform.processor(),
        )
        if Path("/proc/cpuinfo").is_file()
        else platform.processor()
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "uniemo", "configs"], capture_output=True, text=True, check=False
    )
    return (
        f"{os.cpu_count()} cores of {name}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"lightning {lightning.__version__}, commit {commit.stdout.strip() or 'unknown'}"
        f"{' with uncommitted changes' if dirty.stdout.strip() else ''}"
    )


def main() -> None:
    """Measure the seeds asked for and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="where runs go (default: %(default)s)")
    parser.add_argument(
        "--per-emotion", type=int, default=32, help="images per emotion and method (default: %(default)s)"
    )
    arguments = parser.parse_args()
    every = [measure(arguments.work / f"seed{seed}", seed, arguments.per_emotion) for seed in arguments.seeds]
    summary = {}
    for key in dict.fromkeys(key for run in every for key in run):
        values = [run[key] for run in every if key in run]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[key] = {"mean": statistics.mean(values), "spread": spread, "values": values}
    record = {"machine": machine(), "seeds": arguments.seeds, "per_emotion": arguments.per_emotion, "figures": summary}
    (HERE / "loop.json").write_text(json.dumps(record, indent=1) + "\n")
    write_reports(record)


if __name__ == "__main__":
    main()
