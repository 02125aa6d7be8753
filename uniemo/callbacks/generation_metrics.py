"""FID, KID, LPIPS, Emo-A, Sem-C and Sem-D of generated images, and a grid of them, in validation and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import lightning as L
import torch
from torch import Tensor

from uniemo.cache import write_json
from uniemo.callbacks.image_logging import log_picture
from uniemo.callbacks.protocol import Generates, names_for_clarity
from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.manifest import Split
from uniemo.distributed import gather
from uniemo.errors import Batch, Guidance, Natural, Range, Seed, Steps, check_ranges
from uniemo.generation.grids import image_grid
from uniemo.metrics.answers import GENERATED, write_answers
from uniemo.metrics.base import SuiteMetric
from uniemo.metrics.classifier_training import emotion_classifier
from uniemo.metrics.feature_cache import views_of
from uniemo.metrics.fid import FeatureStatistics
from uniemo.metrics.image_batches import to_unit
from uniemo.metrics.image_evaluation import ImageEvaluation
from uniemo.metrics.outputs import Output, emotion_output
from uniemo.metrics.protocols import STRICT
from uniemo.models.emotion_space import Sampler
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.metrics.networks import NetworkSet

ROLES = ("clip", "fid", "lpips", "imagenet", "places")  # arguments that name single networks
_Images = Annotated[int, Range(2, 2**31 - 1, zero=True)]  # FID needs two


class GenerationMetrics(L.Callback):
    """Generate images of every emotion and compute their metrics; modules that cannot generate are skipped.

    Each rank generates and looks at its share; only one batch of images is in memory.

    ``test/Train distance`` is how far sampled features lie from the nearest training image, where training images lie 1
    from each other: near 0 the images are variations of training images. ``test_generation.json`` names the sampler.

    Metrics are named after the networks that saw the images, for example ``val/FID[inception]``. They are those of
    protocol ``strict`` without intervals: on the same images ``uniemo evaluate`` gives the same values. With other
    networks than the miniature's, images are first rounded to the 256 levels of a file. Real images of the same split,
    their central squares at the generator's size, are what FID compares with; in test, the metrics of some real images
    stand beside as ``test/real/…``. On data with other emotions than the module's nothing is computed, since no
    classifier could say whether an image evokes what it should; where the data has no scene and object names, Sem-C
    takes those that the module knows.

    A test leaves the judged emotion of each generated image in ``test_generated.parquet``.

    Networks are loaded for each measurement and hold no memory in between.

    Args:
        networks: ``miniature`` (one small CLIP for all metrics), ``published`` (clean-fid's Inception, LPIPS on
            AlexNet, CLIP ViT-L/14, ResNet-50s of ImageNet and Places365) or ``random`` (those without their weights).
        clip: CLIP of Sem-D and Emo-A; of the miniature's networks the one that stands for all. null takes
            ``miniature:clip`` or ``ViT-L-14``.
        fid: another network for FID and KID: a name or path as ``uniemo evaluate --fid`` takes it, or ``none``.
        lpips: the same for LPIPS, ``alex@256`` for example.
        imagenet: the same for the objects of Sem-C.
        places: the same for its scenes.
        every_n_epochs: during fit, in every n-th epoch's validation; 0 for none.
        val_images: images per emotion in validation, at least 2.
        test_images: images per emotion in test, at least 2; 0 for none.
        grid_images: images per emotion in the picture.
        steps: denoising steps; null takes the diffusion model's configuration, as for the next two.
        guidance: scale of classifier-free guidance.
        space: how features are sampled, ``mixture``, ``variation`` or ``gaussian``.
        batch_size: images denoised at once.
        seed: of the first image of each emotion.
        metrics: more metrics; subclasses of :class:`uniemo.metrics.ImageMetric`, for example.
        judge: what says which emotion an image evokes (Emo-A), trained apart from what it judges: a checkpoint of a
            stage, a file of ``uniemo train-classifier`` or EmoGen's published head. null trains a classifier on the
            CLIP's features at first need, as explicit feedback and ``uniemo filter`` do: what was filtered by it wants
            another judge.
    """

    def __init__(
        self,
        networks: Literal["miniature", "published", "random"] = "miniature",
        clip: str | None = None,
        every_n_epochs: Natural = 2,
        val_images: _Images = 8,
        test_images: _Images = 32,
        grid_images: Natural = 8,
        steps: Steps | None = None,
        guidance: Guidance | None = None,
        space: Sampler | None = None,
        batch_size: Batch = 64,
        seed: Seed = 0,
        metrics: list[SuiteMetric] | None = None,
        judge: str | None = None,
        fid: str | None = None,
        lpips: str | None = None,
        imagenet: str | None = None,
        places: str | None = None,
    ) -> None:
        check_ranges(GenerationMetrics, locals(), "generation_metrics.")
        self.networks = networks
        given = locals()
        self.overrides = {role: given[role] for role in ROLES if given[role] is not None}
        self.every_n_epochs = every_n_epochs
        self.images = {"val": val_images, "test": test_images}
        self.grid_images = grid_images
        self.steps = steps
        self.guidance = guidance
        self.space = space
        self.batch_size = batch_size
        self.seed = seed
        self.metrics = metrics or []
        self.judge = judge
        self._real: dict[str, FeatureStatistics | None] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Open the judge, with the CLIP that it may need, before any work."""
        if self.judge is not None and hasattr(pl_module, "generate"):
            data, cpu = trainer.datamodule, torch.device("cpu")
            others = dict.fromkeys(ROLES[1:], "none")
            self._emotion(self._load(data.vocabulary, self.overrides | others, cpu), data, cpu)

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
        """Generate, make the grid, and log the metrics."""
        log, device = module.log, module.device
        count = self.images[split]
        if count == 0 or not isinstance(module, Generates):
            return
        known, present = module.vocabulary, trainer.datamodule.vocabulary
        if set(known.emotions) != set(present.emotions):
            if trainer.is_global_zero:
                print(
                    f"generation metrics are left out: Emo-A needs data with the model's emotions; this data has "
                    f"{', '.join(present.emotions)}",
                    flush=True,
                )
            return
        data = trainer.datamodule
        evaluation = self._evaluation(data, names_for_clarity(present, known), device)
        if split not in self._real:
            self._real[split] = evaluation.real_statistics(data.evaluation_loader(split))
        generated, shown = self._generate(module, split, evaluation)
        if split == "test" and trainer.is_global_zero and evaluation.answers:
            ids, answers = evaluation.answers
            path = Path(trainer.default_root_dir) / f"test_{GENERATED}.parquet"
            write_answers(path, ids, evaluation.vocabulary.emotions, *answers)
        real = evaluation.evaluate_loader(data.evaluation_loader(split, count)) if split == "test" else {}
        if trainer.is_global_zero and shown:
            name = f"{split}_generated" + (f"_epoch{trainer.current_epoch:03d}" if trainer.state.fn == "fit" else "")
            log_picture(trainer, image_grid(shown), name)
        for name, value in generated.items():
            if value is None:  # null in test_generation.json
                continue
            if "/" not in name or (split == "test" and name.startswith("Emo-A[")):  # single emotions: Emo-A in test
                log(f"{split}/{name}", value)
        for name, value in real.items():
            if "/" not in name and value is not None:
                log(f"{split}/real/{name}", value)
        if split == "test":
            about = self._sampling(module, len(known.emotions))
            if about.get("between_training_images"):  # not where they are all alike
                log("test/Train distance", about["nearest_training_image"] / about["between_training_images"])
            if trainer.is_global_zero:
                values = {"networks": evaluation.networks, "generated": generated, "real": real}
                self._save(Path(trainer.default_root_dir), about, values)

    def _generate(
        self, module: Generates, split: Split, evaluation: ImageEvaluation
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Generate this rank's share of the images, a batch at a time.

        Returns:
            The metrics of all ranks' images, and the grid's images (n, 3, H, W) by emotion name.
        """
        module.prepare_generation()
        vocabulary = module.vocabulary
        shown: dict[str, Tensor] = {}

        def images_of(batches: Sequence[Sequence[str]]) -> Iterator[Tensor]:
            for batch in batches:
                parts = [name.split("/") for name in batch]
                emotions = [vocabulary.emotion_index(emotion) for emotion, _ in parts]
                seeds = [self.seed + int(row) for _, row in parts]
                images = module.generate(emotions, seeds, self.steps, self.guidance, self.space, self.batch_size)
                for name, (_, row), image in zip(batch, parts, images, strict=True):
                    if int(row) < self.grid_images:
                        shown[name] = _bytes(image)
                yield images if self.networks == "miniature" else _bytes(images)

        emotions = evaluation.vocabulary.emotions
        ids = {name: [f"{name}/{row:06d}" for row in range(self.images[split])] for name in emotions}
        values = evaluation.evaluate(ids, images_of, self._real[split], batch_size=self.batch_size)
        every = {name: image for share in gather(shown) for name, image in share.items()}
        rows = {emotion: [every[name] for name in ids[emotion][: self.grid_images]] for emotion in ids}
        return values, {emotion: to_unit(torch.stack(row)) for emotion, row in rows.items() if row}

    def _sampling(self, module: Any, emotions: int) -> dict[str, Any]:  # noqa: ANN401 - a module that generates
        """Return how the test's features are sampled."""
        if not hasattr(module, "sampling"):
            return {"space": self.space}
        rows = range(self.images["test"])
        labels = [emotion for emotion in range(emotions) for _ in rows]
        found: dict[str, Any] = module.sampling(labels, [self.seed + row for row in rows] * emotions, self.space)
        return found

    def _evaluation(self, data: EmotionDataModule, names: Vocabulary, device: torch.device) -> ImageEvaluation:
        """Load networks and classifier; they never enter a checkpoint."""
        networks = self._load(names, self.overrides, device)
        return ImageEvaluation(networks, self._emotion(networks, data, device), names, self.metrics)

    def _load(self, names: Vocabulary, overrides: dict[str, str], device: torch.device) -> NetworkSet:
        """Load the networks."""
        from uniemo.metrics.networks import load_set

        return load_set(self.networks, (STRICT,), names, overrides, device, "--generation_metrics.networks")

    def _emotion(self, networks: NetworkSet, data: EmotionDataModule, device: torch.device) -> Output | None:
        """Return the classifier of Emo-A, trained where none is given; None without a CLIP to train it on."""
        from uniemo.metrics.emotion_classifiers import open_classifier

        if self.judge is not None:
            return open_classifier(self.judge, networks.clip, data.vocabulary.emotions, device).output
        if networks.clip is None:
            return None
        classifier, _ = emotion_classifier(networks.clip.clip, data, views_of(data))
        return emotion_output(networks.clip, classifier.probabilities)

    def _save(self, folder: Path, sampling: dict[str, Any], values: dict[str, Any]) -> None:
        """Write every metric, those of single emotions included, with the settings."""
        settings = {
            "judge": self.judge,
            "images_per_emotion": self.images["test"],
            "seed": self.seed,
            "steps": self.steps,
            "guidance": self.guidance,
            **sampling,
        }
        write_json(folder / "test_generation.json", {**settings, **values})


def _bytes(images: Tensor) -> Tensor:
    """Return images in [0, 1] in the 256 levels of a file."""
    return images.mul(255).round().to(torch.uint8)
