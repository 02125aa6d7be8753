"""What image files say without being decoded: size, transparency, and a hash of their content."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from filelock import FileLock
from PIL import Image
from tqdm.contrib.concurrent import thread_map

from uniemo.cache import cache_dir, digest, write_text
from uniemo.data.images import UnreadableImageError, check_whole, image_errors
from uniemo.errors import UniEmoError
from uniemo.launch import launched_rank
from uniemo.metrics.image_sets import ImageSet
from uniemo.text_files import read_bytes

_RECENT = 2_000_000_000  # ns in which a file may change again without a change of its times
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")

Entry = tuple[str, int, int, bool]  # hash, width, height, transparent


@dataclass(frozen=True)
class Contents:
    """What is known of an image set's files.

    Attributes:
        hashes: hex digits of each file's BLAKE2b, 128 bits.
        sizes: width and height as stored.
        alpha: whether the image may be transparent.
    """

    hashes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    alpha: tuple[bool, ...]

    def digest(self, emotions: Sequence[str]) -> str:
        """Return 16 hex digits of the contents and emotions; neither names nor order matter."""
        lines = sorted(f"{emotion} {key}" for emotion, key in zip(emotions, self.hashes, strict=True))
        return digest("\n".join(lines))

    def size_text(self) -> str:
        """Say how large the images are."""
        kinds = Counter(self.sizes)
        if len(kinds) == 1:
            return "{}×{}".format(*self.sizes[0])
        sides = [min(size) for size in kinds]
        width, height = max(sorted(kinds), key=kinds.__getitem__)
        return f"{len(kinds)} sizes, shorter side {min(sides)} to {max(sides)}, most often {width}×{height}"


def inspect_files(images: ImageSet, remember: bool = False, workers: int | None = None) -> Contents:
    """Read every file's bytes and header.

    Args:
        images: which files.
        remember: keep what was found in the cache, so that files that have not changed are not read again. A file
            counts as unchanged while size, both times (of change of content and of anything) and inode stay; the
            second time cannot be set back by a program.
        workers: threads.
    """
    file = cache_dir() / "file_contents" / f"{digest(str(images.root.resolve()))}.json"
    file.parent.mkdir(exist_ok=True)
    with FileLock(f"{file}.lock"):
        known = _read(file) if remember else {}
        stamps = {name: _stamp(path) for name, path in zip(images.names, images.files(), strict=True)}
        new = [name for name, stamp in stamps.items() if not stamp or known.get(name, [""])[0] != stamp]
        looks = thread_map(
            _look,
            [str(images.root / name) for name in new],
            max_workers=workers or os.cpu_count(),
            desc=f"reading {images.source}",
            unit="file",
            disable=None if launched_rank() == 0 else True,  # as progress bars are
            delay=1,
        )
        found = [look for look in looks if not isinstance(look, str)]
        bad = [(name, look) for name, look in zip(new, looks, strict=True) if isinstance(look, str)]
        if bad:
            raise UniEmoError(
                f"images of {images.source} must be readable; {len(bad)} of {len(images)} are not, first "
                f"{images.root / bad[0][0]} ({bad[0][1]}): restore them or take them out; none is left out unasked"
            )
        known.update({name: [stamps[name], *entry] for name, entry in zip(new, found, strict=True)})
        if remember and new:
            kept = {name: entry for name, entry in known.items() if entry[0]}
            write_text(file, json.dumps(kept))
    hashes, widths, heights, alpha = zip(*(known[name][1:] for name in images.names), strict=True)
    return Contents(hashes, tuple(zip(widths, heights, strict=True)), alpha)


def _read(file: Path) -> dict[str, list[object]]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


def _stamp(path: Path) -> str:
    """Return what changes when a file does; nothing for a file that is missing or brand-new."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < _RECENT:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _look(path: str) -> Entry | str:
    """Return a file's entry, or why it cannot be read."""
    try:
        with image_errors(path):
            content = read_bytes(path)
            file = BytesIO(content)
            with Image.open(file) as image:
                alpha = image.mode in _ALPHA or "transparency" in image.info
                entry = hashlib.blake2b(content, digest_size=16).hexdigest(), *image.size, alpha
                check_whole(image, file)
                return entry
    except UnreadableImageError as error:
        return error.reason
