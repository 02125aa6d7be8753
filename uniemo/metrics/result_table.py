"""A result on screen, and its confusion matrices as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uniemo.cache import atomic_write

# Metric: (factor, digits, better); the others are Emo-A's, in percent.
_FORMS = {
    "FID": (1, 2, "↓"),
    "KID": (1, 4, "↓"),
    "LPIPS": (1, 3, "↑"),
    "Sem-C": (1, 3, "↑"),
    "Sem-D": (1, 4, "↑"),
    "CLIPScore": (1, 2, "↑"),
}
_PERCENT = (100, 2, "↑")
_MAIN = ("FID", "LPIPS", "Emo-A", "Sem-C", "Sem-D")  # the order of the published tables


def table(result: dict[str, Any]) -> str:
    """Lay out a result: protocols side by side, a row for each emotion and for all with its interval.

    A column holds one metric of one protocol, so of the same networks; their number stands at its head and is spelled
    out below.

    Args:
        result: see :func:`uniemo.metrics.evaluation.measure`.
    """
    scores = {name: protocol["figures"] for name, protocol in result["protocols"].items()}
    every = list(dict.fromkeys(name for part in scores.values() for name in part))
    combinations: dict[tuple[str, ...], int] = {}
    for part in scores.values():
        for score in part.values():
            combinations.setdefault(tuple(score["networks"]), len(combinations) + 1)
    blocks = [[name for name in _MAIN if name in every], [name for name in every if name not in _MAIN]]
    lines = [_heading(result)]
    for names in blocks:
        if names:
            lines += ["", *_block(result, names, combinations)]
    lines += ["", f"95 % intervals from seed {result['seed']}; networks (name, hash of the weights):"]
    lines += [f"  [{number}] {' + '.join(networks)}" for networks, number in combinations.items()]
    lines += [f"note: {note}" for note in result["notes"]]
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    return "\n".join(lines)


def network_names(keys: Sequence[str]) -> str:
    """Return how a metric's name says its networks, without the hashes: ``resnet50+resnet50-places365``."""
    return "+".join(dict.fromkeys(key.rpartition(" ")[0] for key in keys))


def _heading(result: dict[str, Any]) -> str:
    """Return what was compared, in two lines."""
    lines = []
    for side in ("generated", "real"):
        part = result[side]
        split = f", {part['split']} split" if part["dataset"] and part["split"] != "all" else ""
        cut = f", cut to {result['real_size']}" if side == "real" and result["real_size"] else ""
        sampled = f", features sampled as {part['space']}" if part.get("space") else ""
        text = f"{part['source']}{split}, {part['images']} images, {part['sizes']}{cut}{sampled}"
        lines.append(f"{side + ':':<10} {text}")
    return "\n".join(lines)


def _block(result: dict[str, Any], names: list[str], combinations: dict[tuple[str, ...], int]) -> list[str]:
    """Return the lines of some metrics, each over the columns of its protocols."""
    emotions = [name for name in result["emotions"] if name in result["generated"]["by_emotion"]]
    labels = ["", "protocol", "networks", *emotions, "all", "95 % from", "to"]
    first = max(map(len, labels))
    lines = [f"{label:<{first}}" for label in labels]
    for name in names:
        factor, digits, better = _FORMS.get(name, _PERCENT)
        columns = []
        for protocol, part in result["protocols"].items():
            if name in part["figures"]:
                score = part["figures"][name]
                single = [score["by_emotion"].get(emotion, {}).get("value") for emotion in emotions]
                values = [*single, score["value"], score["low"], score["high"]]
                shown = ["–" if value is None else f"{factor * value:.{digits}f}" for value in values]
                columns.append([protocol, f"[{combinations[tuple(score['networks'])]}]", *shown])
        short = name.replace("probability", "prob.").replace("(second)", "2nd")
        title = f"{short}{' %' if factor == 100 else ''} {better}"
        widths = [max(map(len, column)) for column in columns]
        room = sum(widths) + 2 * len(widths) - 2
        widths[0] += max(0, len(title) - room)
        lines[0] += f"   {title:>{room}}"
        for row in range(1, len(labels)):
            cells = (f"{column[row - 1]:>{width}}" for column, width in zip(columns, widths, strict=True))
            lines[row] += "   " + "  ".join(cells)
    rule = "─" * len(lines[1])
    ends = 3 + len(emotions)
    return [*lines[:3], rule, *lines[3:ends], rule, *lines[ends:]]


def plot_confusion(result: dict[str, Any], path: Path) -> bool:
    """Plot the confusion matrix of each classifier, rows in percent, and return whether there was one.

    Args:
        result: see :func:`uniemo.metrics.evaluation.measure`; of the protocol with most classifiers: a
            classifier's matrix is the same in all.
        path: PNG to write.
    """
    from matplotlib.figure import Figure

    matrices = max((part["confusion"] for part in result["protocols"].values()), key=len)
    if not matrices:
        return False
    names = result["emotions"]
    side = 1.8 + 0.55 * len(names)
    picture = Figure(figsize=(side * len(matrices), side + 0.4), layout="constrained")
    for axes, matrix in zip(picture.subplots(1, len(matrices), squeeze=False)[0], matrices, strict=True):
        rows = [[100 * count / max(1, sum(row)) for count in row] for row in matrix["counts"]]
        axes.imshow(rows, cmap="Blues", vmin=0, vmax=100)
        for y, row in enumerate(rows):
            for x, share in enumerate(row):
                if sum(matrix["counts"][y]):
                    axes.text(x, y, f"{share:.0f}", ha="center", va="center", color="w" if share > 60 else "k", size=8)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="chosen by the classifier", ylabel="intended (rows in %)", title=matrix["classifier"])
    picture.suptitle(f"{result['generated']['source']}: {result['generated']['images']} images")
    with atomic_write(path) as temporary:
        picture.savefig(temporary, dpi=120, format="png")
    return True
