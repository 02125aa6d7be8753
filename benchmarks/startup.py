"""How long EmoSet takes to start, and what memory it costs: the first start, later ones, and loader workers.

Writes a tree of EmoSet's size into a temporary folder (tiny pictures, each its own content, and annotations of the real
size), starts a fresh process for each measurement, and prints a table::

    python benchmarks/startup.py                  # 118,102 images, 0.9 GB for a few minutes
    python benchmarks/startup.py --images 2000

Times are those of a warm file cache: the tree was written a moment before. Memory is the growth of a process over what
it was with everything imported and no data module: resident (its peak too) and, for workers, private.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SHARES = {"train": 94481, "val": 5905, "test": 17716}  # EmoSet-118K
EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")
SIZES = {"scene": 254, "object": 409, "facial_expression": 6, "human_action": 264}  # EmoSet's vocabularies


def write_tree(root: Path, images: int, old_info: bool = False, seed: int = 0) -> None:
    """Write a tree in EmoSet's layout.

    Args:
        root: folder to make.
        images: about how many, divided as EmoSet divides them.
        old_info: info.json with emotions only: the vocabulary then comes from the annotations.
        seed: of pictures and names.
    """
    rng = np.random.default_rng(seed)
    names = {kind: [f"{kind} number {number:03d}" for number in range(count)] for kind, count in SIZES.items()}
    tables = {
        kind: {"label2idx": {name: i for i, name in enumerate(all_names)}, "idx2label": dict(enumerate(all_names))}
        for kind, all_names in {"emotion": list(EMOTIONS), **names}.items()
    }
    root.mkdir(parents=True)
    (root / "info.json").write_text(json.dumps(tables["emotion"] if old_info else tables))
    for kind in ("image", "annotation"):
        for emotion in EMOTIONS:
            (root / kind / emotion).mkdir(parents=True)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(buffer, "JPEG")
    start, rest = buffer.getvalue()[:2], buffer.getvalue()[2:]
    numbers = dict.fromkeys(EMOTIONS, 0)
    for split, share in SHARES.items():
        entries = []
        for _ in range(max(16, round(share * images / sum(SHARES.values())))):
            emotion = EMOTIONS[rng.integers(8)]
            stem = f"{emotion}/{emotion}_{numbers[emotion]:05d}"
            numbers[emotion] += 1
            length = int(rng.integers(20, 2000))  # a comment of random length: contents and sizes differ
            comment = b"\xff\xfe" + (length + 2).to_bytes(2, "big") + rng.bytes(length)
            (root / f"image/{stem}.jpg").write_bytes(start + comment + rest)
            note: dict[str, object] = {"image_id": Path(stem).name, "emotion": emotion}
            note |= {"brightness": int(rng.integers(11)) / 10, "colorfulness": int(rng.integers(11)) / 10}
            for kind, all_names in names.items():
                if rng.random() < 0.7:
                    chosen = [all_names[i] for i in rng.integers(0, len(all_names), rng.integers(1, 6))]
                    note[kind] = chosen if kind == "object" else chosen[0]
            (root / f"annotation/{stem}.json").write_text(json.dumps(note, indent=4))
            entries.append([emotion, f"image/{stem}.jpg", f"annotation/{stem}.json"])
        (root / f"{split}.json").write_text(json.dumps(entries))


def memory(pid: int | str = "self") -> dict[str, float]:
    """Return a process's resident, proportional and own (written to, so never shared) memory in MiB."""
    amounts: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        amounts[name.rstrip(":")] = int(value) / 1024
    return {"rss": amounts["Rss"], "pss": amounts["Pss"], "own": amounts["Private_Dirty"]}


def _peak() -> float:
    """Return the largest resident memory since it was reset, in MiB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(root: str, workers: int, method: str) -> dict[str, float]:
    """Start EmoSet in this process and return seconds and MiB.

    Args:
        root: the tree.
        workers: loader processes.
        method: how they start: fork, forkserver or spawn.
    """
    import torch

    from uniemo.data import EmoSet

    multiprocessing.set_start_method(method)
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, begin, cpu = memory(), time.perf_counter(), time.process_time()
    data = EmoSet(root, image_size=32, diffusion_size=None, batch_size=64, num_workers=workers)
    data.prepare_data()
    data.setup("fit")
    found = {"seconds": time.perf_counter() - begin, "peak": _peak() - before["rss"]}
    found["cpu"] = time.process_time() - cpu
    after = memory()
    found |= {"rss": after["rss"] - before["rss"], "pss": after["pss"] - before["pss"]}
    loader = data.train_dataloader()
    batches = iter(loader)
    next(batches)
    found["first_batch"] = time.perf_counter() - begin
    if workers:
        for _ in zip(range(min(20, len(loader) - 2)), batches, strict=False):
            pass
        children = [process.pid for process in multiprocessing.active_children()]
        found["worker"] = float(np.mean([memory(pid)["own"] for pid in children if pid is not None]))
    return found


def start(root: Path, cache: Path, workers: int = 0, method: str = "fork") -> dict[str, float]:
    """Run :func:`measure` in a fresh process."""
    words = [sys.executable, __file__, "--measure", str(root), "--workers", str(workers), "--method", method]
    done = subprocess.run(words, env={**os.environ, "UNIEMO_CACHE": str(cache)}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Write the trees, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=sum(SHARES.values()), help="size of the tree")
    parser.add_argument("--old-info", action="store_true", help="info.json with emotions only")
    parser.add_argument(
        "--folder", default=None, help="where the trees are written for a while (default: a temporary one)"
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--method", default="fork", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.workers, options.method)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        large, small, cache = Path(place) / "large", Path(place) / "small", Path(place) / "cache"
        begin = time.perf_counter()
        write_tree(large, options.images, options.old_info)
        write_tree(small, options.images // 50, options.old_info)
        print(f"{options.images} images written in {time.perf_counter() - begin:.0f} s")
        start(small, cache)
        rows = {"first start": start(large, cache), "second start": start(large, cache)}
        changed = next((large / "annotation" / "awe").iterdir())
        changed.write_text(changed.read_text())
        rows["after one annotation changed"] = start(large, cache)
        rows["later start"] = start(large, cache)
        for method in ("fork", "spawn"):
            for name, tree in (("large", large), ("small", small)):
                rows[f"2 workers by {method}, {name} tree"] = start(tree, cache, 2, method)
        columns = ("seconds", "cpu", "first_batch", "rss", "pss", "peak", "worker")
        print(f"{'':34}" + "".join(f"{column:>13}" for column in columns))
        for name, row in rows.items():
            print(f"{name:34}" + "".join(f"{row[c]:13.2f}" if c in row else f"{'':13}" for c in columns))


if __name__ == "__main__":
    main()
