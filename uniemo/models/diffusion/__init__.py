"""Diffusion models: one interface, a file for each family, loading by name."""

from uniemo.models.diffusion.base import DiffusionBackbone
from uniemo.models.diffusion.config import DiffusionConfig
from uniemo.models.diffusion.loading import find_diffusion, load_diffusion, load_pipeline
from uniemo.models.diffusion.prompts import SLOT

__all__ = [
    "SLOT",
    "DiffusionBackbone",
    "DiffusionConfig",
    "find_diffusion",
    "load_diffusion",
    "load_pipeline",
]
