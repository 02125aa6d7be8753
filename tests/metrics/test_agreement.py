"""Metrics against the lpips package and plain NumPy; and what each of EmoGen's habits does to them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance as clean_fid
from cleanfid.fid import kernel_distance
from small import SmallNetwork, evaluate, names_of, pictures

from uniemo.metrics import EMOGEN, STRICT, MetricSuite, Protocol, plan_evaluation
from uniemo.metrics.clip_networks import ClipNetwork
from uniemo.metrics.networks import load_network
from uniemo.metrics.outputs import protocol_outputs
from uniemo.metrics.protocols import PROTOCOLS
from uniemo.taxonomy import MIKELS_8

COUNTS = (20, 26)


def test_every_metric_equals_plain_numpy():
    network = SmallNetwork()
    names, every = names_of(COUNTS)
    images = dict(zip(every, pictures(sum(COUNTS)), strict=True))
    real = pictures(46, seed=1), torch.arange(46) % 2
    scores = evaluate(network, names, images, real)["strict"]["figures"]

    def seen(batch):
        pooled = batch.numpy().astype(np.float64).reshape(-1, 3, 4, 2, 4, 2).mean(axis=(3, 5)).reshape(-1, 48)
        return pooled @ network.weight.numpy().astype(np.float64)

    def softmax(x):
        x = np.exp(x - x.max(axis=1, keepdims=True))
        return x / x.sum(axis=1, keepdims=True)

    features, other = seen(torch.stack([images[name] for name in every])), seen(real[0])
    labels = np.repeat([0, 1], COUNTS)
    probabilities = softmax(features @ network.classes.numpy())
    expected = {
        "FID": clean_fid(*(f(x) for x in (other, features) for f in (lambda x: x.mean(0), lambda x: np.cov(x.T)))),
        "KID": kernel_distance(other, features, num_subsets=1, max_subset_size=46),
        "Emo-A": (probabilities.argmax(1) == labels).mean(),
        "Emo-A probability": probabilities[np.arange(len(labels)), labels].mean(),
        "Emo-A two-class": (probabilities[:, :4].sum(1) > 0.5).mean(),
        "Sem-C": softmax(3 * features).max(1).mean(),
    }
    pairs = {
        label: [(i, j) for i in part for j in part if i < j]
        for label in (0, 1)
        for part in [np.flatnonzero(labels == label)]
    }
    maps = np.cos(features)
    expected["LPIPS"] = np.mean(
        [np.mean([((maps[i] - maps[j]) ** 2).sum() for i, j in part]) for part in pairs.values()]
    )
    expected["Sem-D"] = np.mean(
        [np.mean([((features[i] - features[j]) ** 2).mean() for i, j in part]) for part in pairs.values()]
    )
    assert set(expected) == set(scores)
    for name, value in expected.items():
        assert scores[name]["value"] == pytest.approx(float(value), rel=1e-4), name
    first = features[labels == 0]
    by_hand = clean_fid(*(f(x) for x in (other[::2], first) for f in (lambda x: x.mean(0), lambda x: np.cov(x.T))))
    assert scores["FID"]["by_emotion"]["amusement"]["value"] == pytest.approx(float(by_hand), rel=1e-4)


# EmoGen's habits, one at a time on top of strict. The numbers are what they do on the stated example.


def _score(name, protocol, images, **networks):
    names = {emotion: [f"{emotion}{k}" for k in range(len(part))] for emotion, part in images.items()}
    plan = plan_evaluation(names, MIKELS_8, [protocol])
    suite = MetricSuite(plan, {protocol.name: protocol_outputs(protocol, **networks)}, 16)
    for emotion, part in images.items():
        suite.update(part, names[emotion])
    return suite.compute()[protocol.name]["figures"][name]


def test_pool_never_reset_mixes_emotions():
    """Two emotions, each of nearly equal pictures (0.2 and 0.8 grey): inside an emotion nothing differs.

    The second samples from both: a pair of different emotions comes in 20 of 39 cases, so that the metric, a mean over
    two emotions, is half of 20/39 of the distance between the two greys.
    """
    network = SmallNetwork()
    images = {name: torch.full((20, 3, 8, 8), grey) for name, grey in (("amusement", 0.2), ("awe", 0.8))}
    apart = float((network(images["awe"][:1])["maps"] - network(images["amusement"][:1])["maps"]).square().sum())
    strict = _score("LPIPS", replace(STRICT, pairs=400), images, lpips=network)
    assert strict["value"] == pytest.approx(0, abs=1e-9)
    habit = replace(STRICT, pairs=400, pool="accumulated", draw="independent")
    mixed = _score("LPIPS", habit, images, lpips=network)
    assert mixed["by_emotion"]["amusement"]["value"] == pytest.approx(0, abs=1e-9)
    assert mixed["value"] / apart == pytest.approx(20 / 39 / 2, rel=0.1)


def test_missing_rescale_lowers_lpips():
    """Noise at 64 px, AlexNet with random weights: in [0, 1] instead of [-1, 1] LPIPS falls to 0.30 of itself."""
    network = load_network("lpips", "alex@64", random=True)
    images = {"awe": torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    strict = _score("LPIPS", STRICT, images, lpips=network)
    habit = _score("LPIPS", replace(STRICT, lpips_range="unit"), images, lpips=network)
    assert habit["value"] / strict["value"] == pytest.approx(0.30, rel=0.1)


def test_double_rescale_shrinks_sem_d(clip_folder):
    """Noise through a small random CLIP: divided by 255 twice, pictures are nearly black, Sem-D falls to 4.2e-6."""
    network = ClipNetwork(str(clip_folder))
    images = {"awe": torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    strict = _score("Sem-D", STRICT, images, clip=network)
    habit = _score("Sem-D", replace(STRICT, sem_d_rescale="twice"), images, clip=network)
    assert habit["value"] / strict["value"] == pytest.approx(4.2e-6, rel=0.1)


def test_protocols_differ_in_what_the_page_says():
    assert PROTOCOLS == {"strict": STRICT, "emogen": EMOGEN}
    assert (
        Protocol("emogen", 10, "independent", "accumulated", "unit", "twice", "torchmetrics", "inception-fidelity")
        == EMOGEN
    )
    assert (STRICT.pairs, STRICT.fid_network) == (1000, "inception")
