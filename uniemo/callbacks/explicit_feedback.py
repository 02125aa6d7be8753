"""Explicit feedback: the model's own images, filtered, join its training set."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import lightning as L
from torch import Tensor

from uniemo.cache import atomic_write
from uniemo.callbacks.image_logging import log_picture
from uniemo.callbacks.protocol import Generates, names_for_clarity
from uniemo.data.datamodule import EmotionDataModule
from uniemo.distributed import broadcast, gather, is_first
from uniemo.errors import Batch, Guidance, Natural, Share, Steps, UniEmoError, check_ranges
from uniemo.generation.filtering import Criteria, check_band, filter_index, score_index
from uniemo.generation.grids import image_grid
from uniemo.generation.sampling import first_images, generate_images, plan_images
from uniemo.metrics.classifier_training import emotion_classifier
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.feature_cache import views_of
from uniemo.models.emotion_space import Sampler
from uniemo.modules.generator import sampler_of

_FIRST_SEED = 1_000_000  # far from the seeds of the images that are measured


class ExplicitFeedback(L.Callback):
    """Generate, filter by Algorithm 1 and mix in, once per run; off unless ``num_per_emotion`` is set.

    It runs before the first epoch when the module starts from weights that can generate (``model.init_from`` of stage 2
    or 3), else after ``start_epoch`` epochs of joint training, and not at all with ``data.generated``. Images, scores
    and ``kept.jsonl`` go to ``generated/`` in the run folder. The share of generated images in training is
    ``data.proportion``.

    Args:
        num_per_emotion: images to generate for each emotion; 0 switches the callback off.
        start_epoch: epochs of joint training first, where there are no weights to start from.
        low: η of Algorithm 1.
        high: δ of Algorithm 1.
        scope: rank within each ``emotion``, or all together (``global``, the literal form).
        criteria: ``both`` scores, or one alone (``emo_a``, ``sem_c``).
        clip: the frozen CLIP that scores the images.
        steps: denoising steps; null takes the diffusion model's configuration, as for the next two.
        guidance: scale of classifier-free guidance.
        space: how features are sampled, ``mixture``, ``variation`` or ``gaussian``.
        batch_size: images denoised at once.
    """

    def __init__(
        self,
        num_per_emotion: Natural = 0,
        start_epoch: Natural = 0,
        low: Share = 0.2,
        high: Share = 0.8,
        scope: Literal["emotion", "global"] = "emotion",
        criteria: Criteria = "both",
        clip: str = "miniature:clip",
        steps: Steps | None = None,
        guidance: Guidance | None = None,
        space: Sampler | None = None,
        batch_size: Batch = 64,
    ) -> None:
        check_ranges(ExplicitFeedback, locals(), "explicit_feedback.")
        check_band(low, high)
        self.num_per_emotion = num_per_emotion
        self.start_epoch = start_epoch
        self.low = low
        self.high = high
        self.scope = scope
        self.criteria = criteria
        self.clip = clip
        self.steps = steps
        self.guidance = guidance
        self.space = space
        self.batch_size = batch_size
        self.index: str | None = None  # of the kept images, relative to the run folder

    def check(self, module: L.LightningModule, data: EmotionDataModule) -> None:
        """Raise UniEmoError where the model is untrained, or the data lacks the names that Sem-C needs."""
        if self._active(module, data) and self.start_epoch == 0 and not module.init_from:
            raise UniEmoError(
                "explicit_feedback.start_epoch must be at least 1 without model.init_from; got 0: "
                "give --model.init_from runs/joint/best.ckpt"
            )
        if not self._active(module, data) or self.criteria == "emo_a":
            return
        names = names_for_clarity(data.vocabulary, module.vocabulary)
        if not (names.scenes or names.objects):
            raise UniEmoError(
                "explicit_feedback.criteria must be emo_a on data without the scene and object names of Sem-C; "
                f"got {self.criteria}: set --explicit_feedback.criteria emo_a"
            )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Have the training loader made again in each epoch, so that images can join."""
        if stage == "fit":
            trainer.reload_dataloaders_every_n_epochs = 1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the images of the run that is resumed, or generate them where the weights can."""
        if not self._active(pl_module, trainer.datamodule):
            return
        self.check(pl_module, trainer.datamodule)
        if self.index is not None:
            kept = Path(trainer.default_root_dir) / self.index
            if kept.is_file():
                trainer.datamodule.set_generated(kept)
        elif pl_module.pretrained:
            self._run(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate the images after ``start_epoch`` epochs."""
        due = trainer.current_epoch + 1 >= self.start_epoch and trainer.current_epoch + 1 < (trainer.max_epochs or 0)
        if self.index is None and due and self._active(pl_module, trainer.datamodule):
            self._run(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return where the images are."""
        return {"index": self.index}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        self.index = state_dict["index"]

    def _active(self, module: L.LightningModule, data: EmotionDataModule) -> bool:
        """Whether this run generates images."""
        if self.num_per_emotion == 0 or not getattr(module, "feedback", False):
            return False
        return self.index is not None or data.generated is None

    def _run(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Generate, score, filter and mix in; every rank generates and scores its share."""
        root = Path(trainer.default_root_dir)
        folder = root / "generated"
        data: EmotionDataModule = trainer.datamodule
        device = module.device
        assert isinstance(module, Generates)  # a module with feedback is one
        self._generate(folder, module, progress=trainer.progress_bar_callback is not None)
        clip = FrozenClip(self.clip).to(device)
        classifier, _ = emotion_classifier(clip, data, views_of(data))
        names = names_for_clarity(data.vocabulary, module.vocabulary)
        rows = score_index(folder, clip, classifier, names, self.batch_size)
        if trainer.is_global_zero:
            counts = filter_index(folder, folder / "kept.jsonl", self.low, self.high, self.scope, self.criteria)
            log_picture(trainer, image_grid(first_images(folder, rows)), "feedback_generated")
            by_emotion = ", ".join(f"{name} {count}" for name, count in counts.items())
            kept = sum(counts.values())
            print(f"explicit feedback: kept {kept} of {len(rows)} generated images ({by_emotion})", flush=True)
        trainer.strategy.barrier("explicit_feedback")
        self.index = os.path.join("generated", "kept.jsonl")
        if (root / self.index).is_file():
            data.set_generated(root / self.index)
        else:
            warnings.warn("no generated image lies in the band of both scores; training goes on without", stacklevel=2)

    def _generate(self, folder: Path, module: Generates, progress: bool) -> None:
        """Write the images and their index."""
        module.prepare_generation()
        vocabulary = module.vocabulary
        rows = [
            row for name in vocabulary.emotions for row in plan_images({name: 1.0}, self.num_per_emotion, _FIRST_SEED)
        ]
        sampler = sampler_of(module, self.space)
        rows = [{**row, "space": sampler} for row in rows]

        def generate(part: Sequence[dict[str, Any]]) -> Tensor:
            emotions = [vocabulary.emotion_index(row["emotion"]) for row in part]
            seeds = [row["seed"] for row in part]
            return module.generate(emotions, seeds, self.steps, self.guidance, self.space, self.batch_size)

        first = is_first()
        if first:
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped here
        with atomic_write(folder) if first else nullcontext(folder) as temporary:
            generate_images(broadcast(temporary, 0), rows, generate, self.batch_size, progress)
        gather(None)  # the folder is in its place
