"""Statistics of real images, kept so that the same real set is not seen twice by the same network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from uniemo.cache import atomic_write, cache_dir
from uniemo.evaluation.contents import Contents
from uniemo.evaluation.folders import ImageSet
from uniemo.metrics.fid import FeatureStatistics

_VERSION = 1  # of the file's content; another one is never read


class StatisticsCache:
    """Where the statistics of one real set lie, by network.

    One file is kept for each tree, split and network; what it was made of stands inside and must be equal in all parts:
    every image's name, emotion and content, the order of the classes, the preparation, the weights' hash. A file that
    does not fit is made anew and takes the old one's place, so that the cache does not grow as images change.

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
        digest = hashlib.sha256(json.dumps([_VERSION, list(emotions), real_size]).encode())
        rows = zip(images.names, images.emotions, contents.keys(), strict=True)
        for row in sorted(rows):
            digest.update(json.dumps(row).encode())
        self._made_of = digest.hexdigest()

    def path(self, network: str) -> Path:
        """Return the file for a network's identity (name, hash and preparation)."""
        place = hashlib.sha256(f"{self._place} {network}".encode("utf-8", errors="surrogateescape")).hexdigest()[:16]
        return cache_dir() / "real_statistics" / f"{place}.safetensors"

    def load(self, network: str) -> FeatureStatistics | None:
        """Return the statistics as this network saw these very images; None where they are not known."""
        try:
            with safe_open(self.path(network), "pt") as file:
                if file.metadata() != self._metadata(network):
                    return None
                state = {name: file.get_tensor(name) for name in ("count", "total", "outer")}
        except (OSError, SafetensorError):
            return None
        return FeatureStatistics.from_state(state, network) if len(state["count"]) == self.shape else None

    def save(self, statistics: FeatureStatistics) -> None:
        """Keep statistics."""
        with atomic_write(self.path(statistics.network)) as temporary:
            state = {name: value.cpu().contiguous() for name, value in statistics.state().items()}
            save_file(state, temporary, self._metadata(statistics.network))

    def _metadata(self, network: str) -> dict[str, str]:
        return {"made_of": self._made_of, "network": network, "version": str(_VERSION)}
