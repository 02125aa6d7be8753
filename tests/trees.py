"""Small datasets on disk, drawn by the painter, for every test that needs one."""

import json
from pathlib import Path

from PIL import Image

from uniemo.miniature.layouts import synthesize
from uniemo.miniature.synthesis import synthesize_emoset


def painted_emoset(root, train=32, val=16, test=16, seed=0, size=64, missing=0.1):
    """Paint a tiny EmoSet tree (3-tuples, full info.json, masks) and return its root."""
    return Path(synthesize_emoset(Path(root), train, val, test, seed, size, missing, difficulty=0))


def painted_tree(layout, root, images=200, *options, **more):
    """Paint a tree in a layout and return its root."""
    synthesize(layout, root, images, *options, **more)
    return Path(root)


def drawn_index(root, emotions, per_emotion=4, size=32, scores=None):
    """Write plain coloured images and an index.jsonl that lists them; return the index.

    Args:
        root: folder to write to.
        emotions: names; each gets ``per_emotion`` images.
        per_emotion: images of each.
        size: pixels.
        scores: function (position) -> (emo_a, sem_c); None writes no scores.
    """
    root = Path(root)
    (root / "images").mkdir(parents=True)
    rows = []
    for name in emotions:
        for number in range(per_emotion):
            position = len(rows)
            file = f"images/{name}_{number:03d}.png"
            colour = tuple((37 * position * k + 60 * k) % 256 for k in (1, 2, 3))
            Image.new("RGB", (size, size), colour).save(root / file)
            row = {"file": file, "emotion": name, "weights": {name: 1.0}, "seed": position, "prompt": "{}"}
            if scores is not None:
                row["emo_a"], row["sem_c"] = scores(position)
            rows.append(row)
    index = root / "index.jsonl"
    index.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return index
