"""EmotionROI as people have it: images and grey maps in class folders, text lists or CSVs."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageFilter

from uniemo.miniature.painter import Painting

from .shots import Shot, Studio

_SOFTNESS = 0.05  # of the map's edge, as a share of the picture's side: people's boxes overlap, none is exact


def write_lists(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``training_testing_split/{training,testing}.txt``."""
    _write_text(studio, shots, "training_testing_split/")


def write_root_lists(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``training.txt`` and ``testing.txt`` at the root."""
    _write_text(studio, shots, "")


def write_csv(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``emotion_ROI_{train,test}.csv``: path below ``images`` and class."""
    _write_images(studio, shots)
    for split in ("train", "test"):
        rows = [(shot.file.removeprefix("images/"), shot.name) for shot in shots if shot.split == split]
        studio.write_table(f"emotion_ROI_{split}.csv", rows, ("path", "class"))


def _write_text(studio: Studio, shots: Sequence[Shot], folder: str) -> None:
    """Write images, maps and lists with lines ``emotion/file.jpg``."""
    _write_images(studio, shots)
    for split, name in (("train", "training"), ("test", "testing")):
        lines = [shot.file.removeprefix("images/") for shot in shots if shot.split == split]
        studio.write(f"{folder}{name}.txt", "".join(f"{line}\n" for line in lines))


def _write_images(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``images/<emotion>/`` and ``ground_truth/<emotion>/``, the same names in both."""
    for shot in shots:
        painting = studio.save(shot, f"images/{shot.name}")
        if shot.fault in ("missing_annotation", "missing_image"):
            continue
        path = studio.root / shot.file.replace("images/", "ground_truth/", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        _stimuli_map(painting).save(path, "PNG" if shot.suffix == ".png" else "JPEG", quality=95)


def _stimuli_map(painting: Painting) -> Image.Image:
    """Return the grey map of where the emotion comes from: the object with a soft edge."""
    mask = Image.fromarray(painting.object_mask).convert("L")
    return mask.filter(ImageFilter.GaussianBlur(_SOFTNESS * mask.width))
