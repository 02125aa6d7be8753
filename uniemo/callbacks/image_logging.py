"""Pictures in the run folder and in TensorBoard."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
from PIL import Image

from uniemo.cache import atomic_write


def log_picture(trainer: L.Trainer, picture: Image.Image, name: str) -> Path:
    """Save a picture as ``<run folder>/images/<name>.png`` and show it in TensorBoard, if that is the logger.

    Args:
        trainer: gives the run folder, the step and the loggers.
        picture: RGB.
        name: file stem, slashes make folders; epoch and step belong in it if earlier pictures are to stay.

    Returns:
        The file.
    """
    path = Path(trainer.default_root_dir) / "images" / f"{name}.png"
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
    for logger in trainer.loggers:
        add_image = getattr(logger.experiment, "add_image", None)
        if add_image is not None:
            add_image(name.rsplit("_epoch", 1)[0], np.asarray(picture), trainer.global_step, dataformats="HWC")
    return path
