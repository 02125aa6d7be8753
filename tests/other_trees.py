"""Small trees of the datasets in their layouts, painted once per test run."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from tests.trees import painted_emoset, painted_tree
from uniemo.data.manifest import SPLITS
from uniemo.miniature.layouts import possible_faults, synthesize
from uniemo.miniature.table import EMOTIONS, OBJECTS, SCENES, emotion_table

LAYOUTS = {
    "FI": "fi-zip",
    "EmotionROI": "emotionroi",
    "TwitterI": "twitter1-agrees",
    "TwitterII": "twitter2-topics",
}


@cache
def painted(dataset, images=48):
    """Return the root of a tree of ``dataset`` in one of its layouts."""
    dataset = {name.lower(): name for name in LAYOUTS}[dataset.lower()]
    return str(painted_tree(LAYOUTS[dataset], _folder() / dataset, images=images, size=32))


@cache
def faulty(layout):
    """Return a tree with all faults that its layout can have, and {fault: images}."""
    root = _folder() / layout
    return root, synthesize(layout, root, 64, 0, 32, possible_faults(layout))


@cache
def painted_votes(images=80):
    """Return a Flickr_LDL tree with five folds: 11 votes for each painted image, drawn from its cell of the table."""
    root = _folder() / "flickr_ldl"
    tree = painted_emoset(_folder() / "emoset", train=images - 32, size=32, missing=0)
    (root / "images").mkdir(parents=True)
    table, rng = 0.7 * emotion_table() + 0.3 / len(EMOTIONS), np.random.default_rng(0)
    lines = []
    for _, image, annotation in (row for split in SPLITS for row in json.loads((tree / f"{split}.json").read_text())):
        note = json.loads((tree / annotation).read_text())
        scene, thing = (name.lower().replace(" ", "_") for name in (note["scene"], note["object"][0]))
        votes = rng.multinomial(11, table[SCENES.index(scene), OBJECTS.index(thing)])
        shutil.copy(tree / image, root / "images")
        lines.append(f"{Path(image).name} {' '.join(map(str, votes))} \n")
    for fold in range(5):
        (root / f"val{fold + 1}.csv").write_text("".join(lines[fold::5]))
        (root / f"train{fold + 1}.csv").write_text("".join(line for line in lines if line not in lines[fold::5]))
    return str(root)


def _folder():
    folder = Path(tempfile.mkdtemp(prefix="uniemo-tree-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
