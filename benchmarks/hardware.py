"""What training and generation take on cards of several sizes, counted by ``uniemo fit --estimate``: docs/hardware.md.

python -m benchmarks.hardware            # an hour on two busy cores; resumes; writes hardware.json and fills the page
python -m benchmarks.hardware --tables   # the tables alone, from hardware.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.conditions import HERE, conditions, sentence
from benchmarks.tables import markdown
from uniemo.cache import atomic_write, write_json
from uniemo.estimate.cards import CARDS, Estimate, assumptions

PAGE, RESULT = HERE.parent / "docs" / "hardware.md", HERE / "hardware.json"
CLIPS = {"ViT-B/32": "vit_b32", "ViT-B/16": "vit_b16", "ViT-L/14": "vit_l14"}
FAMILIES = {
    "Stable Diffusion 1.5": "sd15",
    "Stable Diffusion 2.1": "sd21",
    "SDXL": "sdxl",
    "SDXL-Turbo": "sdxl_turbo",
    "Stable Diffusion 3.5 medium": "sd35",
    "Sana 0.6B": "sana",
}
_D = "--model.diffusion."
# What single keys buy, each over the one before it, of a step of one image and of one image generated.
KEYS: dict[str, list[str]] = {
    "float32": [f"{_D}dtype", "float32", f"{_D}checkpointing", "false"],
    "dtype bfloat16": [f"{_D}dtype", "bfloat16"],
    "checkpointing": [f"{_D}checkpointing", "true"],
    "cached_latents": ["--data.cached_latents", "true"],
    "text_on_cpu": [f"{_D}text_on_cpu", "true"],
    "image_size 512": [f"{_D}image_size", "512", "--data.diffusion_size", "512"],
}
SMALL = ("sdxl", "sd35", "sana")


def count(*arguments: str) -> dict[str, Any]:
    """Return the estimate of a configuration as plain values."""
    from uniemo.cli.arguments import prepare
    from uniemo.cli.training import TrainingCLI, quiet

    quiet()
    with contextlib.redirect_stdout(io.StringIO()):
        found: Estimate = TrainingCLI(prepare(["fit", *arguments, "--estimate"])[0], None).estimate
    print(" ".join(arguments), f"{found.memory(found.amounts.batch_size):.1f} GiB", file=sys.stderr, flush=True)
    row: dict[str, Any] = {
        "batch": found.amounts.batch_size,
        "GiB": found.memory(found.amounts.batch_size),
        "GiB of one": found.one.memory,
        "GiB of networks": found.one.weights,
        "TFLOP an image": (found.two.work - found.one.work) / 1e12,
        "trained": found.amounts.training,
        "generated": found.amounts.generated,
        "cards": {
            card.name: [found.largest_batch(card), found.training_hours(card), found.generation_hours(card)]
            for card in CARDS
        },
    }
    if found.image is not None:
        row |= {"GiB of generation": found.image.memory, "TFLOP an image generated": found.image.work / 1e12}
        row |= {f"GiB of generation, {kind}": found.image.memory - size for kind, size in found.saved.items()}
    return row


def configurations() -> dict[str, list[str]]:
    """Return the arguments of every count by "table: row", those of ViT-L/14 first."""
    found = {}
    for clip, tower in reversed(CLIPS.items()):
        towers = ["--config", f"paper/{tower}.yaml"]
        found[f"understanding: {clip}"] = ["--config", "paper/understanding.yaml", *towers]
        for stage in ("joint", "feedback"):
            for family, overlay in FAMILIES.items():
                overlays = [*towers, "--config", f"paper/{overlay}.yaml"]
                found[f"{stage}: {clip}, {family}"] = ["--config", f"paper/{stage}.yaml", *overlays]
    for overlay in SMALL:
        options = ["--config", "paper/joint.yaml", "--config", f"paper/{overlay}.yaml", "--data.batch_size", "1"]
        options += ["--generation_metrics.batch_size", "1"]
        for key, more in KEYS.items():
            options = [*options, *more]
            found[f"{overlay}: {key}"] = options
    return found


def count_all() -> None:
    """Count what hardware.json does not have yet; it is written after each count."""
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"rows": {}}
    result |= {"conditions": conditions(), "assumptions": assumptions()}
    for name, arguments in configurations().items():
        if name not in result["rows"]:
            result["rows"][name] = count(*arguments)
            write_json(RESULT, result)


def rows_of(result: dict[str, Any], table: str) -> dict[str, Any]:
    """Return a table's rows by their own names, as far as they are counted."""
    start = f"{table}: "
    return {name.removeprefix(start): row for name, row in result["rows"].items() if name.startswith(start)}


def fill(result: dict[str, Any]) -> None:
    """Write the tables into the page, between their markers."""
    text = PAGE.read_text(encoding="utf-8")
    stages = {stage: rows_of(result, stage) for stage in ("understanding", "joint", "feedback")}
    tables = {stage: stage_table(rows) for stage, rows in stages.items() if rows}
    keys = {overlay: rows_of(result, overlay) for overlay in SMALL}
    keys = {overlay: rows for overlay, rows in keys.items() if len(rows) == len(KEYS)}
    if keys:
        tables["keys"] = keys_table(keys)
    for name, table in tables.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        before, rest = text.split(start)
        text = f"{before}{start}\n{markdown(table)}\n{end}{rest.split(end)[1]}"
    start, end = "<!-- assumptions:start -->", "<!-- assumptions:end -->"
    before, rest = text.split(start)
    told = f"{result['assumptions']} {sentence(result['conditions'])}"
    text = f"{before}{start}\n{told}\n{end}{rest.split(end)[1]}"
    with atomic_write(PAGE) as path:
        path.write_text(text, encoding="utf-8")


def stage_table(rows: dict[str, Any]) -> list[list[str]]:
    """Return the table of a stage: memory of the recipe's batch, and on each card the largest batch and the hours."""
    table = [["", "batch", "GiB", *(card.name for card in CARDS)]]
    for name, row in rows.items():
        cells = [card_cell(row, card.name) for card in CARDS]
        table.append([name, str(row["batch"]), f"{row['GiB']:.1f}", *cells])
    return table


def card_cell(row: dict[str, Any], card: str) -> str:
    """Return the largest batch on a card, and hours of training and of generated images."""
    batch, training, generation = row["cards"][card]
    if not batch:
        return f"– ({row['GiB of one']:.0f} GiB for 1)"
    hours = f"{training:,.0f} h" + (f" + {generation:,.0f} h" if row["generated"] else "")
    return f"{batch}: {hours}"


def keys_table(keys: dict[str, Any]) -> list[list[str]]:
    """Return what single keys buy, each with those before it: a training step of one image, one image generated."""
    table = [["", *(f"{name}, {what}" for name in keys for what in ("training", "generation"))]]
    for key in KEYS:
        cells = [f"{keys[name][key][what]:.1f}" for name in keys for what in ("GiB of one", "GiB of generation")]
        table.append([key, *cells])
    for kind in ("model", "sequential"):  # of generation alone, with the checkpoint of the third row
        found = [f"{keys[name]['checkpointing'][f'GiB of generation, {kind}']:.1f}" for name in keys]
        table.append([f"generate --offload {kind}", *(cell for own in found for cell in ("", own))])
    return table


def main() -> None:
    """Count, write the result, and fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="fill the page from hardware.json")
    if not parser.parse_args().tables:
        count_all()
    fill(json.loads(Path(RESULT).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
