"""Plot what `make demo` produced: kept images by emotion, accuracy by stage, metrics of the generated images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from uniemo.miniature.table import EMOTIONS, best_accuracy

STAGES = ("understanding", "joint", "feedback")
COLUMNS = 12
METRICS = ("Emo-A", "FID", "LPIPS", "Sem-C", "Sem-D")


def read_lines(path: Path) -> list[dict]:
    """Read JSON Lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def plot(run: Path) -> Path:
    """Write ``demo.png`` into the run folder.

    Args:
        run: folder of ``make demo``.
    """
    kept = read_lines(run / "kept" / "kept.jsonl")
    results = {stage: json.loads((run / f"test-{stage}" / "test.json").read_text()) for stage in STAGES}
    figure = plt.figure(figsize=(13, 6.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    axes = left.subplots(len(EMOTIONS), COLUMNS, squeeze=False)
    for row, emotion in zip(axes, EMOTIONS, strict=True):
        mine = [line for line in kept if line["emotion"] == emotion]
        for axis, line in zip(row, mine, strict=False):
            axis.imshow(Image.open((run / "kept" / line["file"]).resolve()), interpolation="nearest")
        for axis in row:
            axis.axis("off")
        row[0].set_title(emotion, loc="left", fontsize=9, pad=2)
    left.suptitle("generated images that passed the filter", fontsize=11)
    top, bottom = right.subplots(2, 1, height_ratios=(1, 1))
    accuracies = [results[stage]["test/accuracy"] for stage in STAGES]
    best = best_accuracy()
    bars = top.bar(STAGES, accuracies, color=("#8da0cb", "#66c2a5", "#fc8d62"))
    top.bar_label(bars, fmt="%.3f", label_type="center")
    top.axhline(best, color="black", linestyle="--", linewidth=1)
    top.set(ylim=(0, 1), title=f"test accuracy (dashed: best possible, {best:.2f})")
    rows = []
    for name in METRICS:
        key = next(key for key in results["joint"] if key.startswith(f"test/{name}[") and "/" not in key[5:])
        real = results["joint"].get(key.replace("test/", "test/real/"))
        values = [results["joint"][key], results["feedback"][key], real]
        rows.append([key[5:], *("" if value is None else f"{value:.3g}" for value in values)])
    bottom.axis("off")
    bottom.set_title("generated images", fontsize=11)
    table = bottom.table(
        rows,
        colLabels=("metric [network]", "joint", "feedback", "real"),
        colWidths=(0.46, 0.18, 0.18, 0.18),
        loc="upper center",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1, 1.6)
    path = run / "demo.png"
    figure.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    print(plot(Path(sys.argv[1])))
