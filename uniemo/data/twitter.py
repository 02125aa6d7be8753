"""Twitter I (DeepSent) and Twitter II (SentiBank): positive or negative, measured by five-fold cross-validation."""

from __future__ import annotations

from typing import ClassVar, Literal

from uniemo.data.base import EmotionDataModule
from uniemo.data.layouts import sentibank, twitter
from uniemo.data.listing import Layout

LAYOUTS: tuple[Layout, ...] = (*twitter.LAYOUTS, *sentibank.LAYOUTS)
_FRACTIONS = (0.72, 0.08, 0.2)  # one fold of five is the test split, a tenth of the rest is held out


class TwitterI(EmotionDataModule):
    """Twitter I in any of its layouts; arguments as in :class:`EmotionDataModule`, and one of its own.

    ``fold`` says which of the five folds is the test split (1 where it is not given); validation images come from the
    other four.

    Args:
        root: folder of the dataset.
        image_size: see :class:`EmotionDataModule`, as for all that follow but the last.
        diffusion_size: pixels of the VAE's view.
        batch_size: training images per step and device.
        eval_batch_size: images per step in validation and test.
        num_workers: loader processes.
        seed: of every choice.
        crop_scale: smallest and largest area of a training crop.
        crop: ``random`` or ``central``.
        cached_latents: keep the VAE's latents of training images on disk.
        generated: generated images to mix into training.
        proportion: share of generated images.
        limit_train: use at most this many training images.
        layout: name of the tree's layout, where it is not to be recognised.
        split_file: JSON file with the split of each image.
        val_fraction: share of the images outside the test fold that validation takes; null takes 0.1.
        fold: which fold is the test split, from 1; null takes the first.
        folds: how many folds there are.
        check: look at each image's header before the first step.
        on_error: ``raise`` or ``skip``.
        agreement: how many of the five annotators agree at least: ``five`` (882 images), ``four`` (1,116) or ``three``
            (all 1,269).
    """

    dataset_name: ClassVar[str] = "TwitterI"
    fractions: ClassVar[tuple[float, float, float]] = _FRACTIONS
    cross_validated: ClassVar[bool] = True

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        diffusion_size: int | None = 512,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        crop_scale: tuple[float, float] = (0.7, 1.0),
        crop: Literal["random", "central"] = "random",
        cached_latents: bool = False,
        generated: str | None = None,
        proportion: float = 0.2,
        limit_train: int | None = None,
        layout: str | None = None,
        split_file: str | None = None,
        val_fraction: float | None = None,
        fold: int | None = None,
        folds: int = 5,
        check: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        agreement: Literal["three", "four", "five"] = "five",
    ) -> None:
        self.agreement = agreement
        super().__init__(
            root=root,
            image_size=image_size,
            diffusion_size=diffusion_size,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            crop_scale=crop_scale,
            crop=crop,
            cached_latents=cached_latents,
            generated=generated,
            proportion=proportion,
            limit_train=limit_train,
            layout=layout,
            split_file=split_file,
            val_fraction=val_fraction,
            fold=fold,
            folds=folds,
            check=check,
            on_error=on_error,
        )

    def options(self) -> dict[str, str]:
        """Return the agreement that Twitter I's layouts take."""
        return {"agreement": self.agreement}


class TwitterII(EmotionDataModule):
    """Twitter II in any of its layouts; arguments as in :class:`EmotionDataModule`.

    78 % of its images are positive: look at balanced accuracy too. ``fold`` is as in :class:`TwitterI`.
    """

    dataset_name: ClassVar[str] = "TwitterII"
    fractions: ClassVar[tuple[float, float, float]] = _FRACTIONS
    cross_validated: ClassVar[bool] = True
