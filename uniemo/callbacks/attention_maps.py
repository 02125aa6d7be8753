"""Where the scene and object queries look: pictures, and the share of attention on the object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from uniemo.cache import atomic_write, to_json, write_text
from uniemo.callbacks.image_logging import log_picture
from uniemo.data.batch import EmotionBatch
from uniemo.data.transforms import denormalise
from uniemo.errors import Natural, check_ranges
from uniemo.generation.grids import image_grid, to_pil
from uniemo.metrics.split import SplitMean


def coverage(attention: Tensor, masks: Tensor) -> Tensor:
    """Return the share of the attention that lies inside a mask.

    Args:
        attention: (B, h, w), each map summing to 1.
        masks: (B, 1, R, R) in [0, 1], R a multiple of h and w. Grey masks weigh: a place of 0.5 counts half, so that no
            threshold has to be chosen (EmotionROI's maps are means over people).

    Returns:
        (B,) in [0, 1]. For attention that is the same everywhere it is the mask's mean.
    """
    height, width = attention.shape[-2:]
    inside = F.adaptive_avg_pool2d(masks.float(), (height, width))[:, 0]  # (B, h, w) share of each patch
    return (attention * inside).sum(dim=(1, 2))


def overlay(images: Tensor, attention: Tensor) -> Tensor:
    """Lay heat maps (B, h, w), from zero and each scaled by its largest value, over images (B, 3, R, R) in [0, 1].

    Returns:
        (B, 3, R, R) in [0, 1], grey where there is no attention and in colour where there is.
    """
    from matplotlib import colormaps  # takes a second

    heat = attention.unsqueeze(1).float()
    heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    heat = F.interpolate(heat, images.shape[-2:], mode="bilinear")[:, 0].clamp(0, 1).cpu()  # (B, R, R)
    colours = torch.from_numpy(colormaps["inferno"](heat.numpy())[..., :3]).permute(0, 3, 1, 2)  # (B, 3, R, R)
    grey = images.cpu().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    return (0.4 * grey + 0.6 * colours).float()


class AttentionMaps(L.Callback):
    """Plot attention maps over images and log how much of the attention lies on the object.

    Where the data has masks (where the object is, or where people looked), ``coverage/scene`` and ``coverage/object``
    are the mean shares of each query set's attention inside the mask, and ``coverage/area`` is the mask's mean, the
    share of uniform attention. Images without a mask take no part; each sample counts once, however many ranks there
    are. In test the single pictures lie in ``images/test_attention``, with ``index.jsonl``.

    Args:
        every_n_epochs: during fit, in every n-th epoch's validation; 0 for none.
        images: images in the picture, the first of each emotion.
        val_images: the shares are measured on so many first validation images; in test on all.
    """

    def __init__(self, every_n_epochs: Natural = 1, images: Natural = 8, val_images: Natural = 256) -> None:
        check_ranges(AttentionMaps, locals(), "attention_maps.")
        self.every_n_epochs = every_n_epochs
        self.images = images
        self.val_images = val_images
        self._reset()

    def _reset(self) -> None:
        self._shares: SplitMean | None = None
        self._names: list[str] = []  # of the columns of the shares
        self._pictures: dict[str, list[Tensor]] = {}
        self._labels: list[tuple[int, str]] = []  # emotion and file of each image in the picture
        self._seen = 0

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start anew."""
        self._reset()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: EmotionBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect shares and pictures, in validation of the first images."""
        limit = None if trainer.testing else self.val_images
        if self._due(trainer) and (limit is None or self._seen * trainer.world_size < limit):
            self._collect(pl_module, batch, limit, len(trainer.datamodule.vocabulary.emotions))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the shares and write the picture."""
        split = "test" if trainer.testing else "val"
        if self._shares is not None:
            for name, value in zip(self._names, self._shares.compute(), strict=True):
                if not value.isnan():
                    pl_module.log(f"{split}/coverage/{name}", value)
        if self._pictures and trainer.is_global_zero:
            rows = {name: torch.cat(parts) for name, parts in self._pictures.items()}
            epoch = f"_epoch{trainer.current_epoch:03d}" if trainer.state.fn == "fit" else ""
            picture = log_picture(trainer, image_grid(rows), f"{split}_attention{epoch}")
            if trainer.testing:
                self._save_single(picture.with_suffix(""), rows, trainer.datamodule.vocabulary.emotions)
        self._reset()

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def _due(self, trainer: L.Trainer) -> bool:
        """Whether this evaluation has attention maps."""
        if trainer.testing:
            return True
        if trainer.sanity_checking or self.every_n_epochs == 0:
            return False
        return trainer.state.fn != "fit" or (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _collect(self, module: L.LightningModule, batch: EmotionBatch, limit: int | None, emotions: int) -> None:
        """Add the shares and pictures of a batch."""
        few = self._choose(batch, emotions)
        if not hasattr(module, "attention") or (batch.masks is None and not few):
            return
        maps: dict[str, Tensor] = module.attention(batch.images)
        self._seen += len(batch)
        if not maps:
            return
        if batch.masks is not None:
            if self._shares is None:
                self._shares, self._names = SplitMean(limit).to(batch.images.device), [*maps, "area"]
            columns = [coverage(attention, batch.masks) for attention in maps.values()]
            shares = torch.stack([*columns, batch.masks.float().mean(dim=(1, 2, 3))], dim=1)  # (B, K)
            empty = ~batch.masks.flatten(1).any(dim=1)  # an image without a mask file has an empty one
            self._shares.update(shares.masked_fill(empty[:, None], torch.nan), batch.sample_id)
        if few:
            pictures = denormalise(batch.images[few]).cpu()
            self._labels += [(int(batch.emotion[row]), batch.names[row]) for row in few]
            self._pictures.setdefault("image", []).append(pictures)
            for name, attention in maps.items():
                self._pictures.setdefault(name, []).append(overlay(pictures, attention[few].cpu()))

    def _choose(self, batch: EmotionBatch, emotions: int) -> list[int]:
        """Return the rows of a batch for the picture: the first ones, of each emotion as many."""
        share = -(-self.images // emotions)
        chosen, rows = [label for label, _ in self._labels], []
        for row, label in enumerate(batch.emotion.tolist()):
            if len(chosen) < self.images and chosen.count(label) < share:
                chosen.append(label)
                rows.append(row)
        return rows

    def _save_single(self, folder: Path, rows: Mapping[str, Tensor], emotions: Sequence[str]) -> None:
        """Write every image and every map as a PNG of its own, and which belong together as ``index.jsonl``."""
        lines = []
        for number, (label, name) in enumerate(self._labels):
            entry = {"emotion": emotions[label], "name": name}
            for kind, images in rows.items():
                entry[kind] = f"{number:03d}_{kind}.png"
                with atomic_write(folder / entry[kind]) as path:
                    to_pil(images[number]).save(path, format="PNG")
            lines.append(to_json(entry))
        write_text(folder / "index.jsonl", "".join(lines))
