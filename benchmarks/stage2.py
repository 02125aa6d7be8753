"""Stage 2: the whole training step beside the released procedure and beside the bare arithmetic, at equal samples seen.

    python -m benchmarks.stage2 --json benchmarks/stage2_miniature.json                # batch 32, two minutes
    python -m benchmarks.stage2 --shapes sd15 --json benchmarks/stage2_sd15.json       # batch 1, 512 x 512, ten minutes
    python -m benchmarks.stage2 --shapes sd15 --gpu                                    # batch 8, bf16, the first GPU

Four ways, in turns within one process, on the same networks and in the same precision:

- *uniemo*: ``Trainer.fit`` of joint training as its recipe sets it, with ``data.cached_latents``: files read and cut,
  latents from the disk, losses, gradient clipping, AdamW, schedule, progress bar, TensorBoard. A turn is an epoch of
  ``--steps`` batches, its loader included. Validation and checkpoints, once per epoch over 94,000 images, are left out,
  and so is filling the cache, which is done once for all runs; what it took is in the result;
- *released*: what the authors' research code does per step, written anew and plainly: one image a step, opened by
  Pillow with its annotation, two torchvision transforms; the texts of its scene and its object through CLIP's frozen
  text tower; its latents through the VAE; encoder, mappers, diffusion text encoder and UNet, and back; their losses
  (class heads instead of the contrastive ones), AdamW, schedule. As released, the condition is written into the text
  encoder's embedding table, whose whole gradient is taken and whose row is carried over to the condition by hand in a
  second backward pass; the UNet and CLIP's own weights, which no optimiser has, are not frozen either and gather
  gradients; CLIP's last layer runs on all tokens;
- *released, lean*: the same with one backward pass, gradients only of what learns, and CLIP's last layer cut down to
  the class token, as ours is;
- *floor*: forward and backward passes alone, on batches that are ready in memory: encoder with the gradient to the
  queries, fusion, text encoder on the condition, UNet and back to the condition. No loading, no optimiser.

The released ways' learning rate is 0, which keeps the weights that all ways share as they are; the arithmetic is the
same.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger

from benchmarks.released_stage2 import Released, Setting, Shapes
from benchmarks.timing import Clock, Rounds, Way, options, peak_memory, report
from uniemo.callbacks.progress import LossProgressBar
from uniemo.cli.training import quiet
from uniemo.data import EmoSet
from uniemo.data.batch import EmotionBatch
from uniemo.miniature.synthesis import synthesize_emoset
from uniemo.models.attributes import AttributeConfig
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.modules import JointModule

SHAPES = {
    "miniature": Shapes("miniature:clip", "miniature:diffusion", 8, 256, 64, 32, 64, batch=32, steps=4),
    "sd15": Shapes("random:ViT-L-14", "random:sd15", 32, 768, 224, 512, 640, batch=1, steps=1),
}


class Floor:
    """Forward and backward passes on ready batches.

    Args:
        setting: model and pictures.
        batch: with its latents, on the device.
    """

    def __init__(self, setting: Setting, batch: EmotionBatch) -> None:
        self.setting, self.batch = setting, batch
        diffusion = setting.module.model.diffusion
        self.latents = diffusion.sample_posterior(batch.latents)
        self.noise = torch.randn_like(self.latents)
        self.time = torch.randint(diffusion.num_timesteps, (len(batch),), device=setting.device)

    def turn(self) -> int:
        """Do as many batches as a turn has."""
        model, batch = self.setting.module.model, self.batch
        for _ in range(self.setting.shapes.steps):
            with self.setting.autocast():
                features = model.features(batch.images)
                told = F.cross_entropy(model.logits(features), batch.emotion)
                condition = model.condition(features, batch.emotion)
                loss = told + model.diffusion.loss(self.latents, condition, self.noise, self.time).mean()
            loss.backward()
            self.setting.module.zero_grad(set_to_none=True)
        self.setting.wait()
        return self.setting.samples


class Turns(L.Callback):
    """Takes an epoch of the running fit for a turn; the other ways have theirs between the epochs.

    Args:
        rounds: keeps the times.
        setting: what all ways share.

    Attributes:
        encoded: seconds from the making of this to the first epoch: the latents are encoded meanwhile.
    """

    def __init__(self, rounds: Rounds, setting: Setting) -> None:
        self.rounds, self.setting, self.clock = rounds, setting, Clock()
        self.others: dict[str, Way] = {}
        self.encoded: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.setting.wait()
        self.encoded = self.encoded or self.clock.turn(1).seconds
        self.clock = Clock()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop it and let the others have their turns."""
        self.setting.wait()
        self.rounds.add("uniemo", self.clock.turn(self.setting.samples))
        if not self.others and self.setting.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**30
            self.rounds.times.extra["uniemo"] = {"peak GPU memory [GiB]": peak}
        if not self.others:
            ready = next(iter(self.setting.data.train_dataloader())).to(self.setting.device)
            released = Released(self.setting)
            self.others = {
                "floor": Floor(self.setting, ready).turn,  # next to uniemo, which it is compared with most closely
                "released": partial(released.turn, lean=False),
                "released, lean": partial(released.turn, lean=True),
            }
        pl_module.zero_grad(set_to_none=True)
        self.rounds.take(self.others)


def prepare(folder: Path, shapes: Shapes, gpu: bool, workers: int) -> Setting:
    """Paint the pictures and build data and model as the recipe does.

    Args:
        folder: where pictures and the table of P(emotion | attribute) go.
        shapes: of networks and views.
        gpu: run on the first GPU, in bf16 with gradient checkpointing.
        workers: loader processes.
    """
    count = shapes.batch * shapes.steps
    root = synthesize_emoset(folder / "tree", train=count, val=8, test=8, size=shapes.painted)
    data = EmoSet(
        str(root),
        image_size=shapes.image,
        diffusion_size=shapes.target,
        batch_size=shapes.batch,
        num_workers=workers,
        cached_latents=True,
    )
    table = folder / "table.json"
    table.write_text(json.dumps({name: [1 / 8] * 8 for name in (*data.vocabulary.scenes, *data.vocabulary.objects)}))
    module = JointModule(
        encoder=EncoderConfig(clip=shapes.clip, query_length=shapes.queries),
        head=HeadConfig(hidden=shapes.hidden, dropout=0.5),
        attributes=AttributeConfig(source="table", table=str(table)),
        diffusion=DiffusionConfig(
            path=shapes.diffusion, dtype="bfloat16" if gpu else "float32", checkpointing=gpu, guidance=5.0
        ),
    )
    module.prepare(data, initialise=False)
    device = torch.device("cuda" if gpu else "cpu")
    return Setting(module.to(device), data, shapes, device, "bf16-mixed" if gpu else "32-true")


def trainer(setting: Setting, folder: Path, epochs: int, callbacks: list[L.Callback]) -> L.Trainer:
    """Return a trainer as the recipe has it, without validation and checkpoints."""
    return L.Trainer(
        accelerator="gpu" if setting.device.type == "cuda" else "cpu",
        devices=1,
        precision=setting.precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        gradient_clip_val=1.0,
        logger=TensorBoardLogger(str(folder), name="run"),
        log_every_n_steps=10,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=str(folder),
    )


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = options(__doc__)
    parser.add_argument("--shapes", choices=SHAPES, default="miniature", help="of the networks (default: %(default)s)")
    parser.add_argument("--batch", type=int, help="samples in a step of ours (default: 32; sd15: 1, with --gpu 8)")
    parser.add_argument("--steps", type=int, help="of ours in a turn (default: 4; sd15: 1, with --gpu 8)")
    parser.add_argument("--workers", type=int, default=0, help="loader processes (default: %(default)s)")
    parser.add_argument("--clip", help="of the encoder (default: miniature:clip; sd15: random:ViT-L-14)")
    parser.add_argument("--gpu", action="store_true", help="on the first GPU in bf16, with gradient checkpointing")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    quiet()
    chosen = {"batch": given.batch, "steps": given.steps, "clip": given.clip}
    if given.gpu and given.shapes == "sd15":
        chosen = {name: 8 if value is None and name != "clip" else value for name, value in chosen.items()}
    shapes = replace(SHAPES[given.shapes], **{name: value for name, value in chosen.items() if value is not None})
    with tempfile.TemporaryDirectory() as name:
        os.environ["UNIEMO_CACHE"] = str(Path(name) / "cache")  # latents of an earlier run would be found
        setting = prepare(Path(name), shapes, given.gpu, given.workers)
        rounds = Rounds(given.repeats, given.warmup)
        turns = Turns(rounds, setting)
        fit = trainer(setting, Path(name), rounds.total, [LossProgressBar(), turns])
        fit.fit(setting.module, datamodule=setting.data)
    about = {"precision": setting.precision, "start of fit, latents encoded [s]": turns.encoded} | peak_memory()
    report(
        f"stage 2, {given.shapes}, batch {shapes.batch}, {setting.precision}",
        rounds.times,
        [("uniemo", "released"), ("uniemo", "released, lean"), ("uniemo", "floor")],
        given.json,
        vars(shapes) | about,
    )


if __name__ == "__main__":
    main()
