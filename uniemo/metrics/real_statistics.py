"""Statistics of real images' features, kept so that the same real set does not go through the same network twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from uniemo.cache import atomic_write, cache_dir, digest
from uniemo.metrics.fid import FeatureStatistics
from uniemo.metrics.file_contents import Contents
from uniemo.metrics.image_sets import ImageSet

_VERSION = 4  # of the file's content; another one is never read
_TENSORS = ("count", "total", "outer", "rows", "labels")


class StatisticsCache:
    """The statistics of one real set in the cache, by network.

    One file is kept for each tree, split and network; what it was made of stands inside and must be equal in all parts:
    every image's name, emotion and content, the order of the classes, the preparation, the weights' hash. A file that
    does not fit is made again and takes the old one's place, so that the cache does not grow as images change.

    Args:
        images: the real set.
        contents: of its files.
        emotions: class names in class order.
        real_size: side of the square that images are cut to first; None for none.
    """

    def __init__(
        self, images: ImageSet, contents: Contents, emotions: Sequence[str], real_size: int | None = None
    ) -> None:
        self.shape = len(emotions)
        self._place = f"{images.root.resolve()} {images.layout} {images.split} {real_size}"
        made_of = hashlib.sha256(json.dumps([_VERSION, list(emotions), real_size]).encode())
        for row in sorted(zip(images.names, images.emotions, contents.hashes, strict=True)):
            made_of.update(json.dumps(row).encode())
        self._made_of = made_of.hexdigest()

    def path(self, network: str) -> Path:
        """Return the file for a network's identity (name, hash and preparation)."""
        return cache_dir() / "real_statistics" / f"{digest(f'{self._place} {network}')}.safetensors"

    def load(self, network: str) -> FeatureStatistics | None:
        """Return the statistics of these very images for this network; None where they are not known."""
        try:
            with safe_open(self.path(network), "pt") as file:
                found = dict(file.metadata() or {})
                content = found.pop("content", None)
                if found != self._about(network):
                    return None
                tensors = [file.get_tensor(name) for name in _TENSORS]
                if content != _digest(tensors):  # a flipped bit
                    return None
        except (OSError, SafetensorError):
            return None
        return FeatureStatistics(network, *tensors) if len(tensors[0]) == self.shape else None

    def save(self, statistics: FeatureStatistics) -> None:
        """Keep statistics."""
        with atomic_write(self.path(statistics.network)) as temporary:
            state = {name: value.cpu().contiguous() for name, value in statistics.state().items()}
            content = _digest([state[name] for name in _TENSORS])
            save_file(state, temporary, {**self._about(statistics.network), "content": content})

    def _about(self, network: str) -> dict[str, str]:
        """Return what must stand in a file of these images."""
        return {"made_of": self._made_of, "network": network, "version": str(_VERSION)}


def _digest(tensors: Sequence[Tensor]) -> str:
    return digest(*(value.numpy().tobytes() for value in tensors))
