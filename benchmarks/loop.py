"""Measure the three stages on the miniature over several seeds, beside what they are compared with.

    python -m benchmarks.loop --seeds 0 1 2          # about 40 minutes a seed on two cores; resumes

For each seed: the script behind ``make demo``, a linear probe, stage 1 without expert queries, joint training whose
fusion takes the class token alone, gaussian sampling, and textual inversion, all by ``uniemo fit`` and ``uniemo test``.
Mean and standard deviation over seeds go to ``loop.json`` and, as a table, to the screen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.conditions import HERE, conditions, sentence
from benchmarks.tables import markdown
from uniemo.cache import atomic_write

STAGES = ("understanding", "joint", "feedback")
METRICS = ("accuracy", "Emo-A", "FID", "LPIPS", "Sem-C", "Sem-D")
# run: configuration and options; {stage1} is the seed's understanding checkpoint
COMPARED: dict[str, tuple[str, tuple[str, ...]]] = {
    "linear probe": ("baselines/linear_probe.yaml", ()),
    "stage 1 without queries": ("understanding.yaml", ("--model.encoder.queries", "none")),
    "class token alone": (
        "joint.yaml",
        ("--model.init_from", "{stage1}", "--model.fusion.tokens", '["cls"]'),
    ),
    "textual inversion": ("baselines/textual_inversion.yaml", ()),
}


def uniemo(*args: str | Path) -> None:
    """Run the command line in a process of its own."""
    subprocess.run([sys.executable, "-m", "uniemo", *map(str, args)], check=True)


def test(checkpoint: Path, folder: Path, *args: str) -> dict[str, float]:
    """Return the test metrics of a checkpoint by short name, from an earlier run where there is one."""
    result = folder / "test.json"
    if not result.is_file():
        uniemo("test", "--ckpt", checkpoint, "--run_dir", folder, *args)
    found = json.loads(result.read_text(encoding="utf-8"))
    whole = {name: value for name, value in found.items() if name.count("/") == 1}  # not those of single emotions
    short = {name.partition("[")[0].removeprefix("test/"): value for name, value in whole.items()}
    return {name: short[name] for name in METRICS if name in short}


def measure(work: Path, seed: int, images: int) -> dict[str, dict[str, float]]:
    """Return the metrics of every row of one seed; finished runs are not repeated.

    Args:
        work: folder of this seed.
        seed: of every run.
        images: generated images per emotion in each test.
    """
    demo = work / "demo"
    if not (demo / "demo.png").is_file():
        begin = time.monotonic()
        environment = {"BIN": str(Path(sys.executable).parent), "RUN": str(demo), "SEED": str(seed)}
        subprocess.run(["bash", str(HERE / "demo.sh")], check=True, env=os.environ | environment)
        (work / "demo_seconds").write_text(f"{time.monotonic() - begin:.0f}", encoding="utf-8")
    generated = ("--generation_metrics.test_images", str(images))
    rows: dict[str, dict[str, float]] = {}
    for stage in STAGES:
        options = () if stage == "understanding" else generated
        rows[stage] = test(demo / stage / "best.ckpt", work / f"test-{stage}", *options)
    rows["joint, gaussian sampling"] = test(
        demo / "joint" / "best.ckpt", work / "test-gaussian", *generated, "--generation_metrics.space", "gaussian"
    )
    for name, (config, options) in COMPARED.items():
        run = work / name.replace(" ", "-")
        given = [option.format(stage1=demo / "understanding" / "best.ckpt") for option in options]
        if not (run / "best.ckpt").is_file():
            uniemo("fit", "--config", config, "--run_dir", run, "--seed_everything", str(seed), *given)
        generates = config in ("joint.yaml", "baselines/textual_inversion.yaml")
        rows[name] = test(run / "best.ckpt", run / "test", *(generated if generates else ()))
    return rows


def main() -> None:
    """Measure the seeds, write the record, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="where runs go (default: %(default)s)")
    parser.add_argument("--images", type=int, default=32, help="generated images per emotion (default: %(default)s)")
    given = parser.parse_args()
    where = conditions()
    seeds = []
    for seed in given.seeds:
        folder = given.work / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        seeds.append(measure(folder, seed, given.images))
    table = [["", *METRICS]]
    for row in seeds[0]:
        cells = []
        for name in METRICS:
            values = [found[row][name] for found in seeds if name in found[row]]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {deviation:.3f}" if values else "")
        table.append([row, *cells])
    record = {"conditions": where, "seeds": given.seeds, "images per emotion": given.images, "rows": seeds}
    with atomic_write(HERE / "loop.json") as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(table), sentence(where), sep="\n\n")


if __name__ == "__main__":
    main()
