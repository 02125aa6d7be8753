"""Small trees of the datasets in their layouts, painted once per test run."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.trees import painted_tree
from uniemo.miniature.layouts import possible_faults, synthesize

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


def _folder():
    folder = Path(tempfile.mkdtemp(prefix="uniemo-tree-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
