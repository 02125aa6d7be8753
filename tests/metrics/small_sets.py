"""Small image sets and a small network that counts what it sees."""

import torch
from PIL import Image

from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo

EIGHT = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")


class Counting(FeatureNetwork):
    """Channel means and a coarse picture; counts what it sees."""

    views = ("strict", "emogen")

    def __init__(self, name="tiny"):
        super().__init__()
        self.info = NetworkInfo("fid", name, "nowhere", f"{name:0>12}")
        self.seen = {view: 0 for view in self.views}
        self.spoil = False

    def describe(self, view="strict"):
        return view

    def prepare(self, images, view):
        self.seen[view] += len(images)
        small = torch.nn.functional.interpolate(images, (2, 2), mode="area")
        return small / 2 if view == "emogen" else small

    def read(self, inputs):
        features = inputs.flatten(1)
        if self.spoil:
            features = features.where(features != features.max(), torch.nan)
        return {"features": features, "maps": features}


def paint(root, emotions=("awe", "fear"), count=4, size=16, start=0):
    """Write plain images of different colours in a folder for each emotion; return the root."""
    for label, emotion in enumerate(emotions):
        (root / emotion).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            k = start + 31 * label + 7 * number
            colour = (k * 5 % 256, k * 11 % 256, k * 17 % 256)
            Image.new("RGB", (size, size), colour).save(root / emotion / f"{number}.png")
    return root
