"""A tiny feature network with both views, pictures that say which they are, and a whole evaluation around them."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.outputs import Output, emotion_output, protocol_outputs
from uniemo.metrics.pairs import plan_evaluation
from uniemo.metrics.protocols import EMOGEN, STRICT
from uniemo.metrics.suite import MetricSuite
from uniemo.taxonomy import MIKELS_8


class SmallNetwork(FeatureNetwork):
    """Images pooled to 4 x 4; ``emogen`` sees them darker. The corner pixel, in thousandths, is the image's number."""

    views = ("strict", "emogen")

    def __init__(self, features=6, seed=0, name="small"):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.randn(48, features, generator=generator))
        self.register_buffer("classes", torch.randn(features, 8, generator=generator))
        self.info = NetworkInfo("small", name, f"seed {seed}", f"{seed:012d}")
        self.seen = []  # (view, number) of each image, in the order of passes
        self.broken = None  # number of the image whose output is NaN
        self.register_forward_pre_hook(self._record, with_kwargs=True)

    @staticmethod
    def _record(network, inputs, keywords):
        view = keywords.get("view") or (inputs[1] if len(inputs) > 1 else "strict")
        network.numbers = (inputs[0][:, 0, 0, 0] * 1000).round().long().tolist()
        network.seen += [(view, number) for number in network.numbers]

    def describe(self, view="strict"):
        return f"pooled, {view}"

    def prepare(self, images, view):
        pooled = F.adaptive_avg_pool2d(images, 4).flatten(1)
        return pooled / 2 if view == "emogen" else pooled

    def read(self, inputs):
        features = inputs @ self.weight
        if self.broken in self.numbers:
            features[self.numbers.index(self.broken)] = torch.nan
        return {"features": features, "maps": features.cos(), "probabilities": (3 * features).softmax(dim=1)}

    def head(self, features):
        """Return emotion probabilities."""
        return (features @ self.classes).softmax(dim=1)


def pictures(count, size=8, seed=0):
    """Return pictures (count, 3, size, size) in [0, 1] with their number in the corner."""
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    images[:, 0, 0, 0] = torch.arange(count) / 1000
    return images


def names_of(counts):
    """Return names by emotion for (n_1, …) images of Mikels' first emotions, and all of them in a row."""
    names = {emotion: [f"{emotion}/{k:03d}" for k in range(n)] for emotion, n in zip(MIKELS_8, counts, strict=False)}
    return names, [name for part in names.values() for name in part]


def outputs_of(network, second=None, protocols=(STRICT, EMOGEN)):
    """Return the outputs for every metric of each protocol, all of one network."""
    emotion = [emotion_output(one, one.head) for one in (network, second) if one is not None]
    clarity = {"objects": Output(network, "strict", "probabilities")}
    return {
        protocol.name: protocol_outputs(
            protocol, fid=network, lpips=network, clip=network, emotion=emotion, clarity=clarity
        )
        for protocol in protocols
    }


def evaluate(network, names, images, real=None, order=None, batch=7, protocols=(STRICT, EMOGEN), second=None, seed=0):
    """Return the result of an evaluation of ``images`` by name, given in ``order`` or the plan's."""
    plan = plan_evaluation(names, MIKELS_8, protocols, seed)
    suite = MetricSuite(plan, outputs_of(network, second, protocols), batch, seed=seed)
    if real is not None:
        suite.update_real(*real)
    order = list(order or plan.names)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        suite.update([images[name] for name in part], part)
    return suite.compute()


def values(result):
    """Return all values and ends of intervals in one array."""
    rows = []
    for protocol in result.values():
        for score in protocol["figures"].values():
            rows += [(part["value"], part["low"], part["high"]) for part in (score, *score["by_emotion"].values())]
    return np.array(rows)


def paint(root, emotions=("awe", "fear"), count=4, size=16, start=0):
    """Write plain images of different colours in a folder for each emotion; return the root."""
    for label, emotion in enumerate(emotions):
        (root / emotion).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            k = start + 31 * label + 7 * number
            colour = (k * 5 % 256, k * 11 % 256, k * 17 % 256)
            Image.new("RGB", (size, size), colour).save(root / emotion / f"{number}.png")
    return root
