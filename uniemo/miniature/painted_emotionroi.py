"""EmotionROI as people have it: images and grey maps in class folders, text lists or CSVs."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageFilter

from uniemo.miniature.samples import Sample, Tree

_SOFTNESS = 0.05  # of the map's edge, as a share of the picture's side: people's boxes overlap, none is exact


def write_lists(tree: Tree, samples: Sequence[Sample], folder: str = "training_testing_split/") -> None:
    """Write ``training_testing_split/{training,testing}.txt`` with lines ``emotion/file.jpg``."""
    _write_images(tree, samples)
    for split, name in (("train", "training"), ("test", "testing")):
        lines = [sample.file.removeprefix("images/") for sample in samples if sample.split == split]
        tree.write(f"{folder}{name}.txt", "".join(f"{line}\n" for line in lines))


def write_root_lists(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``training.txt`` and ``testing.txt`` at the root."""
    write_lists(tree, samples, folder="")


def write_csv(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``emotion_ROI_{train,test}.csv``: path below ``images`` and class."""
    _write_images(tree, samples)
    for split in ("train", "test"):
        rows = [(sample.file.removeprefix("images/"), sample.name) for sample in samples if sample.split == split]
        tree.write_table(f"emotion_ROI_{split}.csv", rows, ("path", "class"))


def _write_images(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``images/<emotion>/`` and ``ground_truth/<emotion>/``: where the emotion comes from, with a soft edge."""
    for sample in samples:
        painting = tree.save(sample, f"images/{sample.name}")
        if sample.fault in ("missing_annotation", "missing_image"):
            continue
        mask = Image.fromarray(painting.object_mask).convert("L")
        stimuli = mask.filter(ImageFilter.GaussianBlur(_SOFTNESS * mask.width))
        path = tree.path(sample.file.replace("images/", "ground_truth/", 1))
        stimuli.save(path, "PNG" if sample.suffix == ".png" else "JPEG", quality=95)
