"""Stage 1 at true size: the whole training step beside the released procedure and beside the bare arithmetic.

    python -m benchmarks.stage1 --json benchmarks/stage1.json  # ViT-B/32, batch 32, float32, two threads
    python -m benchmarks.stage1 --gpu                          # batch 128, bf16, on the first GPU

The ways take turns in one process, on one model with random weights (ViT-B/32, 32 queries in each set, a head of 768
units, 254 scenes and 409 objects), each turn over as many samples:

- *uniemo*: ``Trainer.fit`` of the understanding stage with what its recipe sets: JPEG files read from disk, cut and
  collated, losses, gradient clipping, AdamW, learning rate schedule, progress bar, TensorBoard. A turn is an epoch from
  its start to the end of its last step, so that nothing is loaded in advance. Checkpoints and validation come once in
  an epoch of 94,000 images and are left out.
- *released*: what the authors' research code does in a step, written anew and plainly. Pillow opens the pictures, one
  torchvision transform each. The texts of the batch's scenes and objects, two for each picture, go through CLIP's text
  tower at each step, without gradient, since it is frozen (a sixth of the arithmetic). The same losses and AdamW; no
  clipping, no log. Every layer of CLIP runs on all tokens.
- *released, lean*: the same with CLIP's last layer cut down to the class token, as ours is: a lower bound of the ratio.
- *floor*: forward and backward passes on a batch that is ready in memory: no loading, no clipping, no optimiser.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.photographs import write_photograph_tree
from benchmarks.timing import Clock, Rounds, Way, options, peak_memory, report
from uniemo.callbacks.progress import LossProgressBar
from uniemo.cli.training import quiet
from uniemo.data import EmoSet
from uniemo.data.batch import EmotionBatch
from uniemo.data.manifest import Manifest
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD
from uniemo.models.clip import load_clip
from uniemo.models.encoder import EncoderConfig, ExpertQueryEncoder
from uniemo.models.head import HeadConfig
from uniemo.modules import UnderstandingModule
from uniemo.vocabulary import Vocabulary, attribute_text

VIT = "random:ViT-B-32"
Labelled = tuple[Tensor, int, str, str]  # picture, emotion, scene's text, object's text


class PlainDataset(Dataset[Labelled]):
    """Pictures the plain way: Pillow and one torchvision transform, each with the texts of its scene and one object."""

    def __init__(self, records: Manifest, names: Vocabulary, size: int) -> None:
        self.records, self.names = records, names
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(0.7, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(CLIP_MEAN, CLIP_STD),
            ]
        )

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.records)

    def __getitem__(self, index: int) -> Labelled:
        """Return picture ``index``; an attribute that it lacks has an empty text."""
        records = self.records
        picture = Image.open(records.path(index)).convert("RGB")
        scene, objects = int(records.scene[index]), records.objects(index).tolist()
        scene_text = "" if scene < 0 else attribute_text(self.names.scenes[scene])
        object_text = attribute_text(self.names.objects[objects[-1]]) if objects else ""  # the last one, as released
        return self.transform(picture), int(records.emotion[index]), scene_text, object_text


def every_token(encoder: ExpertQueryEncoder, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return class, scene and object feature (B, D), each layer of the tower run on all tokens."""

    def queries(rows: Tensor | None) -> Tensor:
        assert rows is not None
        return rows.expand(len(images), -1, -1)

    visual, (first, second) = encoder.visual, encoder.stages
    x = visual.embed(images)  # (B, 1 + P, D)
    base = x.shape[1]
    x = torch.cat([x, queries(encoder.scene_query)], dim=1)
    end = x.shape[1]
    for block in visual.resblocks[:first]:
        x = block(x)
    scene, _ = encoder.scene_block(x[:, base:], x[:, :base])
    x = torch.cat([x[:, :base], scene, queries(encoder.object_query)], dim=1)
    for block in visual.resblocks[first:second]:
        x = block(x)
    objects, _ = encoder.object_block(x[:, end:], x[:, :base])
    x = torch.cat([x[:, :end], objects], dim=1)
    for block in visual.resblocks[second:]:
        x = block(x)
    return visual.ln_post(x[:, 0]), scene.mean(dim=1), objects.mean(dim=1)


@dataclass
class Setting:
    """What all ways share.

    Attributes:
        module: with its model, on the device.
        data: the pictures.
        steps: batches in a turn.
        device: where it runs.
        precision: of the trainer.
    """

    module: UnderstandingModule
    data: EmoSet
    steps: int
    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[None]:
        """Return the precision as a context."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def wait(self) -> None:
        """Let the device finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Released:
    """The released procedure.

    Args:
        setting: model and pictures.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        data, model = setting.data, setting.module.model
        pictures = PlainDataset(data.records("train"), data.vocabulary, data.image_size)
        workers = {"num_workers": data.num_workers, "persistent_workers": data.num_workers > 0}
        self.loader = DataLoader(pictures, data.batch_size, shuffle=True, drop_last=True, **workers)
        text = load_clip(setting.module.config.encoder.clip).text
        text._model.to(setting.device)  # type: ignore[attr-defined]
        self.text = text
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            learning, lr=0.0
        )  # the same arithmetic; the weights stay what uniemo made them

    def turn(self, lean: bool) -> int:
        """Train on as many batches as a turn has; ``lean`` cuts the last layer down to the class token."""
        batches: Iterator[tuple[Tensor, Tensor, list[str], list[str]]] = iter(self.loader)
        for _ in range(self.setting.steps):
            self.step(lean, *next(batches))
        self.setting.wait()
        return self.setting.steps * self.setting.data.batch_size

    def step(self, lean: bool, images: Tensor, emotion: Tensor, scenes: list[str], objects: list[str]) -> None:
        """Train on one batch: images (B, 3, R, R), emotions (B,), B texts of each kind."""
        model, device = self.setting.module.model, self.setting.device
        images, emotion = images.to(device), emotion.to(device)
        with self.setting.autocast():
            text = {"scene": self.text(scenes), "object": self.text(objects)}  # (B, E) each
            if lean:
                features = model.features(images)
                cls, found = features.cls, {"scene": features.scene, "object": features.object}
            else:
                cls, scene, thing = every_token(model.encoder, images)
                found = {"scene": scene, "object": thing}
            loss = 0.5 * F.cross_entropy(model.head(cls), emotion)
            for kind, names in (("scene", scenes), ("object", objects)):
                projected = F.normalize(model.project(kind, found[kind]), dim=-1)
                scores = projected @ F.normalize(text[kind], dim=-1).T / 0.07  # (B, B)
                own = torch.tensor([row if name else -100 for row, name in enumerate(names)], device=device)
                loss = loss + 0.25 * F.cross_entropy(scores, own)  # a picture without the attribute is no anchor
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def floor(setting: Setting, batch: EmotionBatch) -> int:
    """Run forward and backward passes on a ready batch."""
    for _ in range(setting.steps):
        setting.module.zero_grad(set_to_none=True)
        with setting.autocast():
            loss, _ = setting.module.losses(batch)
        loss.backward()
    setting.module.zero_grad(set_to_none=True)
    setting.wait()
    return setting.steps * len(batch)


class Turns(L.Callback):
    """Takes an epoch of the running fit for a turn; the other ways have theirs between the epochs.

    Args:
        rounds: keeps the times.
        setting: what all ways share.
    """

    def __init__(self, rounds: Rounds, setting: Setting) -> None:
        self.rounds, self.setting, self.clock = rounds, setting, Clock()
        self.others: dict[str, Way] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.setting.wait()
        self.clock = Clock()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop it and let the others have their turns."""
        self.setting.wait()
        samples = self.setting.steps * self.setting.data.batch_size
        self.rounds.add("uniemo", self.clock.turn(samples))
        self.others = self.others or self.other_ways()
        self.rounds.take(self.others)

    def other_ways(self) -> dict[str, Way]:
        """Return the released procedure and the floor."""
        released, setting = Released(self.setting), self.setting
        batch = next(iter(setting.data.train_dataloader())).to(setting.device)
        return {
            "floor": partial(floor, setting, batch),  # next to uniemo, which it is compared with most closely
            "released": partial(released.turn, lean=False),
            "released, lean": partial(released.turn, lean=True),
        }


def prepare(
    root: Path, batch_size: int, steps: int, workers: int = 0, clip: str = VIT, gpu: bool = False, size: int = 224
) -> Setting:
    """Build data and model as the recipe does, with random weights.

    Args:
        root: tree of photographs.
        batch_size: B.
        steps: batches in a turn.
        workers: loader processes.
        clip: its name, weights random.
        gpu: run on the first GPU, in bf16.
        size: pixels of the pictures that the CLIP takes.
    """
    data = EmoSet(
        str(root),
        image_size=size,
        diffusion_size=None,
        batch_size=batch_size,
        num_workers=workers,
        limit_train=batch_size * steps,
    )
    module = UnderstandingModule(
        encoder=EncoderConfig(clip=clip, query_length=32), head=HeadConfig(hidden=768, dropout=0.5)
    )
    module.prepare(data, initialise=False)
    device = torch.device("cuda" if gpu else "cpu")
    return Setting(module.to(device), data, steps, device, "bf16-mixed" if gpu else "32-true")


def trainer(setting: Setting, folder: Path, rounds: Rounds) -> L.Trainer:
    """Return the recipe's trainer, with the other ways between its epochs.

    Args:
        setting: what all ways share.
        folder: where TensorBoard writes.
        rounds: keeps the times.
    """
    return L.Trainer(
        accelerator="gpu" if setting.device.type == "cuda" else "cpu",
        devices=1,
        precision=setting.precision,
        max_epochs=rounds.total,
        gradient_clip_val=1.0,
        logger=TensorBoardLogger(folder, name="run"),
        log_every_n_steps=10,
        callbacks=[LossProgressBar(), Turns(rounds, setting)],
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=folder,
    )


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = options(__doc__)
    parser.add_argument("--clip", default=VIT, help="name of the CLIP (default: %(default)s)")
    parser.add_argument("--batch", type=int, help="samples in a step (default: 32; with --gpu 128)")
    parser.add_argument("--steps", type=int, help="in a turn (default: 1; with --gpu 30)")
    parser.add_argument("--workers", type=int, help="loader processes (default: 0; with --gpu 8)")
    parser.add_argument("--gpu", action="store_true", help="on the first GPU in bf16")
    given = parser.parse_args()
    batch, steps, workers = (
        (128 if given.gpu else 32) if given.batch is None else given.batch,
        (30 if given.gpu else 1) if given.steps is None else given.steps,
        (8 if given.gpu else 0) if given.workers is None else given.workers,
    )
    torch.set_num_threads(given.threads)
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "EmoSet"
        write_photograph_tree(root, round(batch * steps * 1.3))
        setting = prepare(root, batch, steps, workers, given.clip, given.gpu)
        rounds = Rounds(given.repeats, given.warmup)
        trainer(setting, Path(folder), rounds).fit(setting.module, datamodule=setting.data)
    report(
        f"stage 1, {given.clip.removeprefix('random:')}, batch {batch}, {setting.precision}",
        rounds.times,
        [("uniemo", "floor"), ("uniemo", "released"), ("uniemo", "released, lean")],
        given.json,
        {"batch": batch, "steps in a turn": steps, "loader workers": workers, "precision": setting.precision}
        | peak_memory(),
    )


if __name__ == "__main__":
    main()
