"""Small trees of the other datasets, painted once per test run."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from uniemo.miniature.layouts import synthesize

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
    folder = Path(tempfile.mkdtemp(prefix="uniemo-tree-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(synthesize(LAYOUTS[dataset], folder / dataset, images=images, size=32, progress=False))
