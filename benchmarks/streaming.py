"""Memory and speed of streamed shards: does a process grow with the number of images?

Writes shards of small pictures into a temporary folder and runs an epoch of the training loader in a fresh process for
each form and number of images::

    python -m benchmarks.streaming                          # 10,000 and 100,000 images: some minutes, 0.5 GB of disk
    python -m benchmarks.streaming --images 1000 2000 --workers 2
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from benchmarks.conditions import conditions, sentence
from benchmarks.startup import EMOTIONS
from benchmarks.tables import markdown, plain
from uniemo.cache import write_json

ROWS = 2500  # of a shard
SIZE = 64  # pixels


def pictures(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield emotion and JPEG of pictures of coloured noise, each another one."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((SIZE, SIZE)).save(buffer, "JPEG")
        yield EMOTIONS[number % len(EMOTIONS)], buffer.getvalue()


def write_shards(folder: Path, kind: str, images: int) -> None:
    """Write parquet files or tars of ``ROWS`` pictures each, and a shard of validation."""
    folder.mkdir(parents=True)
    for split, count in (("train", images), ("val", 8)):
        rows = pictures(count)
        for shard in range(-(-count // ROWS)):
            part = [row for _, row in zip(range(min(ROWS, count - shard * ROWS)), rows, strict=False)]
            path = folder / f"{split}-{shard:05d}.{'parquet' if kind == 'parquet' else 'tar'}"
            if kind == "parquet":
                table = [{"image": {"bytes": data, "path": None}, "emotion": emotion} for emotion, data in part]
                parquet.write_table(pa.Table.from_pylist(table), path, row_group_size=1000)
                continue
            with tarfile.open(path, "w") as archive:
                for number, (emotion, data) in enumerate(part):
                    for suffix, content in (("jpg", data), ("txt", emotion.encode())):
                        entry = tarfile.TarInfo(f"{number:05d}.{suffix}")
                        entry.size = len(content)
                        archive.addfile(entry, io.BytesIO(content))


def resident() -> float:
    """Return the MiB that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def epoch(folder: Path, workers: int) -> dict[str, float]:
    """Run an epoch of the training loader in this process."""
    from uniemo.data import Streaming

    sizes = {"image_size": SIZE, "diffusion_size": None, "batch_size": 64, "num_workers": workers}
    data = Streaming(
        str(folder), **sizes, label_column="emotion" if "parquet" in str(folder) else "txt", images_at_hand=64
    )
    data.check(("train", "val"))
    loader = data.train_dataloader()
    before, start, seen = resident(), time.perf_counter(), 0
    for batch in loader:
        seen += len(batch)
    taken = time.perf_counter() - start
    found = {
        "images": seen,
        "images per second": seen / taken,
        "before the epoch [MiB]": before,
        "peak [MiB]": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if workers:
        loader._iterator = None  # ends the workers, whose peak is then known
        found["peak of a worker [MiB]"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return found


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, default=1, help="loader processes (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--epoch", type=Path, help=argparse.SUPPRESS)  # in a process of its own
    given = parser.parse_args()
    if given.epoch is not None:
        print(json.dumps(epoch(given.epoch, given.workers)))
        return
    where = conditions()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind in ("parquet", "webdataset"):
            for images in given.images:
                folder = Path(name) / f"{kind}-{images}"
                write_shards(folder, kind, images)
                for workers in dict.fromkeys((0, given.workers)):
                    words = [sys.executable, "-m", "benchmarks.streaming", "--epoch", folder, "--workers", str(workers)]
                    done = subprocess.run(words, check=True, capture_output=True, text=True)
                    label = f"{kind}, {images:,} images, {workers} workers"
                    results[label] = json.loads(done.stdout.splitlines()[-1])
                    print(label, results[label], file=sys.stderr, flush=True)
    heads = list(dict.fromkeys(head for row in results.values() for head in row))
    table = [
        ["", *heads],
        *([label, *(f"{row.get(head, 0):,.0f}" for head in heads)] for label, row in results.items()),
    ]
    print("\n\n".join([plain(table), sentence(where), markdown(table)]))
    if given.json is not None:
        write_json(given.json, {"title": "streamed shards", "conditions": where, "results": results})


if __name__ == "__main__":
    main()
