"""Losses of joint training with and without the cache of latents, from one seed: two curves in one picture.

    python -m benchmarks.loss_curves --json benchmarks/loss_curves.json --picture benchmarks/loss_curves.png

Both runs train on the painted dataset's 2,000 pictures, central crops and random flips, for ``--epochs`` epochs of 63
steps; one encodes its batches by the VAE at every step, the other takes what was encoded once, in half precision. Noise
is drawn for each (seed, step, picture), so that nothing else differs. How far the losses are apart step by step is
printed, as the share of the loss.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib as mpl
import torch

from benchmarks.timing import conditions, sentence, spread, write_json
from uniemo.cli.training import quiet
from uniemo.data import EmoSet
from uniemo.data.batch import EmotionBatch
from uniemo.models.attributes import AttributeConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.modules import JointModule

mpl.use("Agg")
import matplotlib.pyplot as plt

SHOWN = ("diffusion", "total")
WAYS = {"VAE at every step": False, "cached latents": True}


class Losses(L.Callback):
    """Keeps the losses of every step."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {name: [] for name in SHOWN}

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: EmotionBatch,
        batch_idx: int,
    ) -> None:
        """Keep this step's."""
        for name, values in self.seen.items():
            values.append(float(trainer.callback_metrics[f"loss/{name}"]))


def train(folder: Path, cached: bool, epochs: int, seed: int) -> dict[str, list[float]]:
    """Return the losses of a short run, step by step.

    Args:
        folder: for what the run writes.
        cached: take latents from the cache.
        epochs: how many.
        seed: of the run.
    """
    data = EmoSet(
        "miniature:emoset",
        image_size=64,
        diffusion_size=32,
        batch_size=32,
        seed=seed,
        crop="central",
        cached_latents=cached,
    )
    table = folder / "table.json"
    table.write_text(json.dumps({"balloon": [1 / 8] * 8}))
    module = JointModule(
        encoder=EncoderConfig(clip="miniature:clip", query_length=8),
        head=HeadConfig(hidden=256, dropout=0.5),
        attributes=AttributeConfig(source="table", table=str(table)),
        seed=seed,
    )
    losses = Losses()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        gradient_clip_val=1.0,
        logger=False,
        callbacks=[losses],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        default_root_dir=str(folder),
    )
    trainer.fit(module, datamodule=data)
    return losses.seen


def draw(path: Path, curves: dict[str, dict[str, list[float]]]) -> None:
    """Write the picture: a column for each loss, the curves above, their difference below."""
    figure, axes = plt.subplots(2, len(SHOWN), figsize=(11, 5), sharex=True, height_ratios=(3, 1), layout="constrained")
    (first, plain), (second, cached) = curves.items()
    for column, name in enumerate(SHOWN):
        above, below = axes[0, column], axes[1, column]
        steps = range(1, len(plain[name]) + 1)
        above.plot(steps, plain[name], color="tab:orange", linewidth=4, alpha=0.5, label=first)
        above.plot(steps, cached[name], color="tab:blue", linewidth=1, label=second)
        above.set_title(f"{name} loss")
        above.legend()
        below.plot(steps, [abs(a - b) / abs(a) for a, b in zip(plain[name], cached[name], strict=True)], color="black")
        below.set_yscale("log")
        below.set_ylabel("relative difference")
        below.set_xlabel("step")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train both ways, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--picture", type=Path, help="PNG to write")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    quiet()
    where = conditions()
    curves = {}
    with tempfile.TemporaryDirectory() as name:
        for way, cached in WAYS.items():
            curves[way] = train(Path(name), cached, given.epochs, given.seed)
    plain, cached_curves = curves.values()
    apart = {
        name: spread([abs(a - b) / abs(a) for a, b in zip(plain[name], cached_curves[name], strict=True)])
        for name in SHOWN
    }
    for name, found in apart.items():
        count = len(plain[name])
        print(f"{name} loss, {count} steps: apart by {found['high']:.2e} of it at most, {found['median']:.2e} mostly")
    print(sentence(where))
    if given.picture is not None:
        draw(given.picture, curves)
    if given.json is not None:
        write_json(given.json, {"conditions": where, "relative difference": apart, "curves": curves})


if __name__ == "__main__":
    main()
