"""FID, LPIPS, Emo-A, Sem-C and Sem-D of generated images, and a grid of them, in validation and test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from torch import Tensor

from uniemo.callbacks.image_grid import image_grid, log_picture
from uniemo.callbacks.protocol import Generates, names_for_clarity
from uniemo.data.base import EmotionDataModule, Split
from uniemo.errors import UniEmoError
from uniemo.metrics.emotion_classifier import EmotionClassifier, emotion_classifier
from uniemo.metrics.fid import FeatureStatistics
from uniemo.metrics.generation import evaluate_images, images_by_emotion, real_statistics
from uniemo.metrics.networks import EvaluationNetworks
from uniemo.resources import atomic_write
from uniemo.vocabulary import Vocabulary

VIEWS: tuple[Literal["image", "target"], ...] = ("image", "target")  # Emo-A also sees the generator's resolution


class GenerationMetrics(L.Callback):
    """Generate images of every emotion and measure them; modules that cannot generate are left in peace.

    Figures are named after the network that saw the images, for example ``val/FID[miniature-clip]``. Real images of the
    same split are what FID compares with; in test, the figures of some real images stand beside as ``test/real/…``.
    On data with other emotions than the module's nothing is measured, since no classifier could tell whether an image
    evokes what it should; where the data has no scene and object names, Sem-C looks for those that the module knows.

    Args:
        clip: the frozen CLIP that looks at the images.
        every_n_epochs: during fit, in every n-th epoch's validation; 0 for none.
        val_images: images per emotion in validation, at least 2.
        test_images: images per emotion in test, at least 2; 0 for none.
        grid_images: images per emotion in the picture.
        steps: denoising steps; null takes the diffusion model's configuration, as for the next two.
        guidance: scale of classifier-free guidance.
        space: how features are drawn, ``bank`` or ``gaussian``.
        batch_size: images denoised at once.
        seed: of the first image of each emotion.
    """

    def __init__(
        self,
        clip: str = "miniature:clip",
        every_n_epochs: int = 2,
        val_images: int = 8,
        test_images: int = 32,
        grid_images: int = 8,
        steps: int | None = None,
        guidance: float | None = None,
        space: Literal["bank", "gaussian"] | None = None,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        if every_n_epochs < 0:
            raise UniEmoError(f"generation_metrics.every_n_epochs must be at least 0; got {every_n_epochs}")
        for name, value in (("val_images", val_images), ("test_images", test_images)):
            if value == 1 or value < 0:
                raise UniEmoError(f"generation_metrics.{name} must be 0 or at least 2; got {value}")
        self.clip = clip
        self.every_n_epochs = every_n_epochs
        self.images = {"val": val_images, "test": test_images}
        self.grid_images = grid_images
        self.steps = steps
        self.guidance = guidance
        self.space = space
        self.batch_size = batch_size
        self.seed = seed
        self._networks: EvaluationNetworks | None = None
        self._classifier: EmotionClassifier | None = None
        self._real: dict[str, FeatureStatistics] = {}

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure when the epoch is due."""
        if trainer.sanity_checking:
            return
        every = self.every_n_epochs
        if trainer.state.fn != "fit" or (every > 0 and (trainer.current_epoch + 1) % every == 0):
            self._measure(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure."""
        self._measure(trainer, pl_module, "test")

    def _measure(self, trainer: L.Trainer, module: L.LightningModule, split: Split) -> None:
        """Generate, draw the grid, and log the figures."""
        log, device = module.log, module.device
        count = self.images[split]
        if count == 0 or not isinstance(module, Generates):
            return
        known, present = module.vocabulary, trainer.datamodule.vocabulary
        if set(known.emotions) != set(present.emotions):
            if trainer.is_global_zero:
                print(
                    f"generation figures are left out: Emo-A needs data with the model's emotions; this data has "
                    f"{', '.join(present.emotions)}",
                    flush=True,
                )
            return
        names = names_for_clarity(present, known)
        images = self.draw(module, count)
        if trainer.is_global_zero and self.grid_images:
            name = f"{split}_generated" + (f"_epoch{trainer.current_epoch:03d}" if trainer.state.fn == "fit" else "")
            log_picture(trainer, image_grid({name: part[: self.grid_images] for name, part in images.items()}), name)
        generated, real = self._figures(trainer.datamodule, device, images, split, names)
        for name, value in generated.items():
            if "/" not in name or (split == "test" and name.startswith("Emo-A[")):  # single emotions: Emo-A in test
                log(f"{split}/{name}", value)
        for name, value in real.items():
            if "/" not in name:
                log(f"{split}/real/{name}", value)
        if split == "test" and trainer.is_global_zero:
            self._save(Path(trainer.default_root_dir), {"generated": generated, "real": real})

    def _figures(
        self,
        data: EmotionDataModule,
        device: torch.device,
        images: dict[str, Tensor],
        split: Split,
        names: Vocabulary,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return the figures of generated images and, in test, those of as many real ones."""
        networks, classifier = self._evaluators(data, device)
        if split not in self._real:
            self._real[split] = real_statistics(networks, data.evaluation_loader(split), names)
        generated = evaluate_images(networks, classifier, images, self._real[split], names)
        if split != "test":
            return generated, {}
        some = images_by_emotion(data.evaluation_loader(split, self.images[split]), names)
        some = {name: part for name, part in some.items() if len(part) > 1}
        if not some:
            return generated, {}
        return generated, evaluate_images(networks, classifier, some, None, names)

    def draw(self, module: Generates, count: int) -> dict[str, Tensor]:
        """Return ``count`` images (n, 3, H, W) in [0, 1] by emotion name."""
        module.prepare_generation()
        seeds = list(range(self.seed, self.seed + count))
        return {
            name: module.generate(emotion, seeds, self.steps, self.guidance, self.space, self.batch_size)
            for emotion, name in enumerate(module.vocabulary.emotions)
        }

    def _evaluators(
        self, data: EmotionDataModule, device: torch.device
    ) -> tuple[EvaluationNetworks, EmotionClassifier]:
        """Return networks and classifier, built at first need; they never enter a checkpoint."""
        if self._networks is None or self._classifier is None:
            self._networks = EvaluationNetworks(self.clip).to(device)
            self._classifier, _ = emotion_classifier(self._networks.clip, data, VIEWS)
        return self._networks, self._classifier

    def _save(self, folder: Path, figures: dict[str, dict[str, float]]) -> None:
        """Write every figure, those of single emotions included, with the settings."""
        settings = {
            "network": self.clip,
            "images_per_emotion": self.images["test"],
            "seed": self.seed,
            "steps": self.steps,
            "guidance": self.guidance,
            "space": self.space,
        }
        with atomic_write(folder / "test_generation.json") as path:
            path.write_text(json.dumps({**settings, **figures}, indent=1) + "\n", encoding="utf-8")
