"""Turn the measured record into the tables of benchmarks/README.md and README.md, between their markers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from uniemo.miniature.table import EMOTIONS, best_accuracy, table_report

HERE = Path(__file__).parent
ROOT = HERE.parent
MISSING = "–"
METHODS = ("real", "captions", "bank", "gaussian", "cls only", "textual inversion", "feedback, bank")
LABELS = {
    "real": "real test paintings",
    "captions": "captions drawn from the table (ceiling)",
    "bank": "**joint training, bank**",
    "gaussian": "joint training, gaussian",
    "cls only": "class token alone, bank",
    "textual inversion": "textual inversion, a token per emotion",
    "feedback, bank": "explicit feedback, bank",
}


def between(path: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name:start -->`` and ``<!-- name:end -->``."""
    content = path.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    path.write_text(pattern.sub(lambda match: f"{match[1]}{text.rstrip()}\n{match[2]}", content), encoding="utf-8")


def row(*cells: str) -> str:
    """Return a Markdown table row."""
    return "| " + " | ".join(cells) + " |"


def stages_table(show: Any) -> list[str]:  # noqa: ANN401
    """Accuracy and attention by stage."""
    best = best_accuracy()
    lines = [row("test accuracy", "mean ± spread"), "|---|---|", row("best possible, by the table", f"{best:.3f}")]
    for key, label in (
        ("linear probe", "linear probe on the same frozen CLIP"),
        ("no queries", "stage 1 without expert queries"),
        ("understanding", "**stage 1, understanding**"),
        ("joint", "stage 2, joint training"),
        ("feedback", "stage 3, explicit feedback"),
    ):
        lines.append(row(label, show(f"accuracy/{key}")))
    return lines


def differences(figures: dict[str, Any]) -> str:
    """Say by how much each step changed the accuracy, seed by seed."""
    steps = (("expert queries", "no queries", "understanding"), ("joint training", "understanding", "joint"))
    steps += (("explicit feedback", "joint", "feedback"),)
    said = []
    for label, before, after in steps:
        pairs = zip(figures[f"accuracy/{before}"]["values"], figures[f"accuracy/{after}"]["values"], strict=True)
        said.append(f"{label} " + ", ".join(f"{new - old:+.3f}" for old, new in pairs))
    return f"What each step changed, seed by seed: {'; '.join(said)}."


def generation_table(show: Any) -> list[str]:  # noqa: ANN401
    """Figures of generated images by method."""
    figures = ("Emo-A", "FID", "LPIPS", "Sem-C", "Sem-D")
    lines = [row("images (32 px)", *(f"{name} [miniature-clip]" for name in figures)), "|---" * 6 + "|"]
    for method in METHODS:
        cells = [show(f"{method}/{name}") for name in figures]
        if set(cells) != {MISSING}:
            lines.append(row(LABELS[method], *cells))
    return lines


def emotion_table(show: Any) -> list[str]:  # noqa: ANN401
    """Emo-A per emotion by method."""
    lines = [row("Emo-A [miniature-clip]", *EMOTIONS), "|---" * 9 + "|"]
    for method in METHODS:
        cells = [show(f"{method}/Emo-A/{name}") for name in EMOTIONS]
        if set(cells) != {MISSING}:
            lines.append(row(LABELS[method], *cells))
    return lines


def write_reports(record: dict[str, Any]) -> None:
    """Write all tables of a record made by ``loop.py``."""
    figures = record["figures"]

    def show(key: str, digits: int = 3) -> str:
        if key not in figures:
            return MISSING
        value = figures[key]
        count = len(value["values"])
        few = "" if count == len(record["seeds"]) else f" ({count} seed{'s' * (count > 1)})"
        spread = f" ± {value['spread']:.{digits}f}" if count > 1 else ""
        return f"{value['mean']:.{digits}f}{spread}{few}"

    def ratio(method: str, name: str) -> float:
        return figures[f"{method}/{name}"]["mean"] / figures[f"real/{name}"]["mean"]

    seeds = ", ".join(map(str, record["seeds"]))
    took, *fewer = show("demo wall time [s]", 0).split(" (")  # of fewer seeds than the rest
    head = [
        f"Seeds {seeds}; mean ± standard deviation over seeds. {record['machine']}.",
        f"The demo took {' ('.join([f'{took} s', *fewer])} after installation, alone on the machine.",
        "",
    ]
    attention = [
        row(
            "share of attention on the painted object",
            "scene queries",
            "object queries",
            "the object's share of the area",
        ),
        "|---|---|---|---|",
        *(
            row(stage, show(f"attention/{stage}/scene"), show(f"attention/{stage}/object"), show("attention/area"))
            for stage in ("understanding", "joint", "feedback")
        ),
    ]
    ratios = (
        f"Of the real paintings' Emo-A by the same classifier the bank reaches {ratio('bank', 'Emo-A'):.2f} after "
        f"joint training and {ratio('feedback, bank', 'Emo-A'):.2f} after explicit feedback; of their LPIPS-style "
        f"distance {ratio('bank', 'LPIPS'):.2f} and {ratio('feedback, bank', 'LPIPS'):.2f}, of their Sem-D "
        f"{ratio('bank', 'Sem-D'):.2f} and {ratio('feedback, bank', 'Sem-D'):.2f}."
    )
    sizes = ", ".join(
        f"{stage} {figures[f'checkpoint/{stage}']['mean']:.3f}" for stage in ("understanding", "joint", "feedback")
    )
    stages, generation = stages_table(show), generation_table(show)
    between(
        ROOT / "README.md", "loop", "\n".join([*head, *stages, "", differences(figures), "", *generation, "", ratios])
    )
    full = [
        *head,
        *stages,
        "",
        differences(figures),
        "",
        *attention,
        "",
        *generation,
        "",
        ratios,
        "",
        *emotion_table(show),
        "",
        f"Size of `best.ckpt` over the bytes of the tensors that differ from the frozen backbones: {sizes}.",
        f"Each generated row: {record['per_emotion']} images per emotion and seed, from `best.ckpt`, 15 UniPC steps, "
        "guidance 5.",
    ]
    between(HERE / "README.md", "loop", "\n".join(full))


def write_miniature() -> None:
    """Write the table's report and the weights' quality into README.md."""
    between(ROOT / "README.md", "table", f"```\n{table_report().rstrip()}\n```")
    quality = json.loads((ROOT / "uniemo" / "miniature" / "weights" / "quality.json").read_text())
    lines = [
        row("figure", "value"),
        "|---|---|",
        *(row(key.replace("_", " "), f"{value:.4g}") for key, value in quality.items()),
    ]
    between(ROOT / "README.md", "quality", "\n".join(lines))


if __name__ == "__main__":
    write_miniature()
    write_reports(json.loads((HERE / "loop.json").read_text()))
