"""Looking at picture files without decoding them: is this a whole picture, as far as its two ends tell?"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, TiffImagePlugin

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that hold the size
_SCAN, _END = 0xDA, 0xD9
_TRUNCATED = "truncated"
_HEAD = 2**14  # bytes read at once: a camera's EXIF block with its thumbnail mostly fits


class _BrokenError(Exception):
    """Carries the reason."""


def check_header(path: str | Path) -> str | None:
    """Say why a file is no whole picture, as far as its header and its end tell; no pixel is decoded.

    JPEG: size and end marker (whatever follows the end marker is no fault). PNG: size and last chunk. GIF: the end of
    its first frame. WebP, BMP, TIFF: the length that the header announces. Others: Pillow opens and verifies them.
    Damage between the two ends stays unseen.

    Args:
        path: the file; its name does not matter.

    Returns:
        None for a whole picture, else the reason in a few words.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                return "zero bytes"
            head = file.read(_HEAD)
            if head.startswith(b"\xff\xd8\xff"):
                _check_jpeg(file, head, size)
            elif head.startswith(_PNG):
                _check_png(file, head, size)
            else:
                _check_other(file, size)
    except FileNotFoundError:
        return "it does not exist"
    except IsADirectoryError:
        return "it is a folder"
    except _BrokenError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return None


def check_files(
    root: str | Path, files: Sequence[str], progress: bool = True, workers: int | None = None
) -> list[tuple[str, str]]:
    """Check many files (see :func:`check_header`), several at a time.

    Args:
        root: folder that the names are relative to.
        files: the names.
        progress: show a progress bar.
        workers: files looked at together; None takes four for each core, since disks are what is waited for.

    Returns:
        (file, reason) of each file that is no whole picture, in the order of ``files``.
    """
    from tqdm import tqdm

    folder = str(root)
    if workers is None:
        workers = 4 * (os.cpu_count() or 1)
    parts = [files[start : start + 256] for start in range(0, len(files), 256)]

    def check(part: Sequence[str]) -> list[tuple[str, str]]:
        reasons = [(name, check_header(os.path.join(folder, name))) for name in part]
        return [(name, reason) for name, reason in reasons if reason is not None]

    found: list[tuple[str, str]] = []
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(files), desc="checking images", unit="file", disable=not progress) as bar,
    ):
        for part, bad in zip(parts, pool.map(check, parts), strict=True):
            found += bad
            bar.update(len(part))
    return found


def _check_size(width: int, height: int) -> None:
    """Refuse what Pillow would refuse: no pixels, or so many that it takes the file for an attack."""
    if width < 1 or height < 1:
        raise _BrokenError(f"it has {width} × {height} pixels")
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise _BrokenError(f"it has {width} × {height} pixels, more than Pillow opens")


def _check_jpeg(file: BinaryIO, head: bytes, size: int) -> None:
    """Walk over the markers to the first scan; look for the end marker behind it."""
    start = _jpeg_scan(file, head, size)
    file.seek(max(start, size - 2))
    if file.read() == _JPEG_END:
        return
    file.seek(start)
    if not _jpeg_ends(file.read()):
        raise _BrokenError(_TRUNCATED)


def _jpeg_scan(file: BinaryIO, head: bytes, size: int) -> int:
    """Return where the first scan's data begin, having met a frame with a size before."""
    position, framed = 2, False
    while True:
        if position + 10 > len(head) and len(head) < size:  # behind a long block: go on reading there
            file.seek(0)
            head = file.read(position + _HEAD)
        if position + 4 > len(head):
            raise _BrokenError(_TRUNCATED)
        marker = head[position + 1]
        if head[position] != 0xFF or marker == 0xFF:  # stray bytes and padding: Pillow passes over them too
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers that stand alone
            position += 2
            continue
        length = int.from_bytes(head[position + 2 : position + 4], "big")
        if marker in _FRAMES:
            if position + 10 > len(head):
                raise _BrokenError(_TRUNCATED)
            precision, height, width, channels = struct.unpack_from(">BHHB", head, position + 4)
            _check_size(width, height)
            if precision != 8 or channels not in (1, 3, 4):
                raise _BrokenError(f"{channels} channels of {precision} bits, which Pillow does not read")
            framed = True
        if marker == _END or length < 2:
            raise _BrokenError("damaged header")
        position += 2 + length
        if marker == _SCAN:
            if not framed:
                raise _BrokenError("damaged header")
            if position >= size:
                raise _BrokenError(_TRUNCATED)
            return position


def _jpeg_ends(data: bytes) -> bool:
    """Return whether entropy-coded data, perhaps of several scans, come to an end marker."""
    position = data.find(b"\xff")
    while 0 <= position < len(data) - 1:
        marker = data[position + 1]
        if marker == _END:
            return True
        if marker == 0xFF:
            position += 1
        elif marker == 0 or marker == 0x01 or 0xD0 <= marker <= 0xD7:  # a stuffed 255, a restart
            position += 2
        else:  # tables and the header of the next scan
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        position = data.find(b"\xff", position)
    return False


def _check_png(file: BinaryIO, head: bytes, size: int) -> None:
    """Look at the first chunk and for the last one."""
    if len(head) < 24 or head[12:16] != b"IHDR":
        raise _BrokenError(_TRUNCATED if size < 33 else "damaged header")
    _check_size(*struct.unpack_from(">II", head, 16))
    file.seek(max(0, size - len(_PNG_END)))
    if file.read() == _PNG_END:
        return
    position = len(_PNG)
    while position + 12 <= size:  # something may follow the last chunk
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        position += 12 + length
        if name == b"IEND" and position <= size:
            return
    raise _BrokenError(_TRUNCATED)


def _check_other(file: BinaryIO, size: int) -> None:
    """Let Pillow read the header, then compare the length that it announces with the file's."""
    file.seek(0)
    head = file.read(12)
    file.seek(0)
    try:
        with Image.open(file) as image:
            _check_size(*image.size)
            needed = _announced(image, head)
            is_gif = image.format == "GIF"
            image.verify()
    except _BrokenError:
        raise
    except Image.UnidentifiedImageError as error:
        raise _BrokenError("no picture") from error
    except Exception as error:  # Pillow's plugins raise what they like on damaged headers
        text = str(error)
        cut = "truncat" in text.lower()
        raise _BrokenError(_TRUNCATED if cut else text.splitlines()[0] if text else type(error).__name__) from error
    if is_gif:
        with open(file.name, "rb") as again:  # Pillow closes what it has verified
            needed = _gif_frame_end(again.read())
    if needed > size:
        raise _BrokenError(_TRUNCATED)


def _gif_frame_end(data: bytes) -> int:
    """Return where the first frame of a GIF ends; more than there is where it does not."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    position = 13 + table(data[10])
    framed = False
    while not framed and position + 10 < len(data) and data[position] in b"!,":
        framed = data[position] == ord(",")
        position += 11 + table(data[position + 9]) if framed else 2  # the frame's header and code size; an extension's
        while position < len(data) and data[position]:  # blocks, each with its length in front
            position += 1 + data[position]
        position += 1
    return position if framed else len(data) + 1


def _announced(image: Image.Image, head: bytes) -> int:
    """Return how many bytes the file must have by its header; 0 where the format does not say."""
    if image.format == "WEBP":
        return 8 + int.from_bytes(head[4:8], "little")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        for starts, lengths in ((273, 279), (324, 325)):  # strips, tiles
            if starts in tags and lengths in tags:
                return max(int(a) + int(b) for a, b in zip(tags[starts], tags[lengths], strict=True))
    if image.format == "BMP":
        tiles: list[tuple[Any, ...]] = list(getattr(image, "tile", []))
        if len(tiles) == 1 and tiles[0][0] == "raw":
            _, _, start, (_, stride, *_) = tiles[0]
            return int(start) + int(stride) * image.height
    return 0
