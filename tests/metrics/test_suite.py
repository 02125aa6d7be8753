import collections

import numpy as np
import pytest
import torch
from small import SmallNetwork, evaluate, names_of, outputs_of, pictures, values

from tests.forked import needs_two_cores, two_ranks
from uniemo.errors import UniEmoError
from uniemo.metrics import EMOGEN, STRICT, ImageMetric, MetricSuite, Protocol, plan_evaluation
from uniemo.metrics.outputs import emotion_output, protocol_outputs
from uniemo.taxonomy import MIKELS_8

COUNTS = (12, 9, 15)
SHORT = (Protocol("strict", pairs=20), EMOGEN)


@pytest.fixture
def network():
    return SmallNetwork()


@pytest.fixture(scope="module")
def data():
    names, every = names_of(COUNTS)
    images = dict(zip(every, pictures(sum(COUNTS)), strict=True))
    real = pictures(60, seed=1), torch.arange(60) % 3
    return names, every, images, real


def suite_of(names, protocol=STRICT, batch=32, extra=(), emotion=(), **networks):
    """Return the suite of one protocol."""
    plan = plan_evaluation(names, MIKELS_8, [protocol])
    return MetricSuite(plan, {protocol.name: protocol_outputs(protocol, emotion=emotion, **networks)}, batch, extra)


def test_each_image_goes_through_each_network_and_view_once(network, data):
    names, every, images, _ = data
    second = SmallNetwork(seed=5, name="second")
    evaluate(network, names, images, protocols=SHORT, second=second)
    once = dict.fromkeys(range(len(every)), 1)
    for view in ("strict", "emogen"):  # FID by torchmetrics' recipe takes the second view of every image
        assert collections.Counter(number for seen, number in network.seen if seen == view) == once
    assert collections.Counter(number for _, number in second.seen) == once
    network.seen.clear()
    suite = suite_of(names, EMOGEN, 7, lpips=network, clip=network)  # what only a pair needs skips images in none
    suite.update([images[name] for name in suite.plan.names], suite.plan.names)
    pairs = suite.plan.pairs["emogen"]
    paired = {suite.plan.names[k] for side in (pairs.first, pairs.second) for k in side}
    assert collections.Counter(network.seen) == {("emogen", every.index(name)): 1 for name in paired}


def test_order_batches_and_mixed_sizes_do_not_matter(network, data):
    names, every, images, real = data
    expected = values(evaluate(network, names, images, real, protocols=SHORT))
    shuffled = {emotion: part[::-1] for emotion, part in reversed(names.items())}
    bigger = images | {name: images[name].repeat_interleave(2, 1).repeat_interleave(2, 2) for name in every[::2]}
    for other in (
        evaluate(network, shuffled, images, real, order=every[::-1], batch=5, protocols=SHORT),
        evaluate(network, names, images, real, order=[*every, *every[:9]], batch=50, protocols=SHORT),
        evaluate(network, names, bigger, real, protocols=SHORT),
    ):
        np.testing.assert_allclose(values(other), expected, rtol=1e-5, atol=1e-9)
    levels = {name: (image * 255).round().byte() for name, image in images.items()}
    floats = {name: image.float() / 255 for name, image in levels.items()}
    np.testing.assert_allclose(values(evaluate(network, names, levels)), values(evaluate(network, names, floats)))


def test_protocols_share_what_they_agree_on(network, data):
    names, _, images, real = data
    result = evaluate(network, names, images, real)
    strict, emogen = result["strict"], result["emogen"]
    assert strict["figures"]["Emo-A"] == emogen["figures"]["Emo-A"]
    assert strict["figures"]["FID"]["value"] != emogen["figures"]["FID"]["value"]
    assert strict["pairs"] == {"amusement": 66, "awe": 36, "contentment": 105}  # fewer than 1,000 exist: all
    assert emogen["pairs"] == {"amusement": 10, "awe": 10, "contentment": 10}
    assert strict["images"] == dict(zip(MIKELS_8, COUNTS, strict=False))
    assert strict["real_images"] == {"amusement": 20, "awe": 20, "contentment": 20}
    assert list(strict["figures"]) == [
        "FID",
        "KID",
        "LPIPS",
        "Emo-A",
        "Emo-A probability",
        "Emo-A two-class",
        "Sem-C",
        "Sem-D",
    ]
    for score in strict["figures"].values():
        assert score["low"] <= score["value"] <= score["high"]
        assert score["networks"][0].startswith("small ")
        assert list(score["by_emotion"]) == list(MIKELS_8[:3])


def test_second_classifier_and_confusion(network, data):
    names, _, images, _ = data
    second = SmallNetwork(seed=5, name="second")
    result = evaluate(network, names, images, second=second)["strict"]
    assert result["figures"]["Emo-A (second)"]["networks"] == [second.info.key]
    for name, confusion in zip(("Emo-A", "Emo-A (second)"), result["confusion"], strict=True):
        assert result["figures"][name]["value"] == np.trace(confusion) / sum(COUNTS)
    assert [sum(row) for row in result["confusion"][0]] == [*COUNTS, 0, 0, 0, 0, 0]


class Brightness(ImageMetric):
    """A metric of one's own, as a file outside the package has it."""

    name = "Brightness"
    needs = ("images",)

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def score(self, images, emotion):
        return self.factor * images.mean(dim=(1, 2, 3))


def test_an_extra_metric(network, data):
    names, every, images, _ = data
    suite = suite_of(names, extra=[Brightness(factor=2)], clip=network)
    suite.update([images[name] for name in every], every)
    score = suite.compute()["strict"]["figures"]["Brightness"]
    assert score["value"] == pytest.approx(2 * float(torch.stack(list(images.values())).mean()))
    assert score["low"] < score["value"] < score["high"]
    assert set(score["by_emotion"]) == set(names)
    lost = Brightness()
    lost.needs = ("nothing",)
    with pytest.raises(UniEmoError, match="it needs 'nothing'"):
        suite_of(names, extra=[lost], clip=network)


@pytest.mark.parametrize("shuffled", [False, True])
def test_shuffled_labels_give_chance(shuffled):
    truth = np.repeat(np.arange(8), 100)
    truth = np.random.default_rng(0).permutation(truth) if shuffled else truth
    names, every = names_of((100,) * 8)
    perfect = SmallNetwork()
    suite = suite_of(
        names,
        emotion=[emotion_output(perfect, lambda features: torch.eye(8)[torch.from_numpy(truth[perfect.numbers])])],
    )
    suite.update(pictures(800, size=4), every)
    scores = suite.compute()["strict"]["figures"]
    if shuffled:
        assert abs(scores["Emo-A"]["value"] - 0.125) < 0.035
        assert 0.42 < scores["Emo-A two-class"]["value"] < 0.58
    else:
        assert scores["Emo-A"]["value"] == scores["Emo-A two-class"]["value"] == 1


@pytest.mark.parametrize("networks", [{"fid": 1}, {"lpips": 1}])
def test_nan_names_the_image(network, data, networks):
    names, every, images, real = data
    network.broken = 20
    suite = suite_of(names, **dict.fromkeys(networks, network))
    with pytest.raises(UniEmoError, match=f"finite.*{every[20]}"):
        suite.update([images[name] for name in every], every)
    if "fid" in networks:
        with pytest.raises(UniEmoError, match=r"finite.*r20"):
            suite.update_real(*real, [f"r{k}" for k in range(60)])


@pytest.mark.parametrize("factor", [300, torch.nan])
def test_images_out_of_range_are_named(network, data, factor):
    names, every, images, _ = data
    spoiled = images | {every[3]: images[every[3]] * factor}
    with pytest.raises(UniEmoError, match=f"{every[3]}: .*0, 1"):
        suite_of(names, clip=network).update([spoiled[name] for name in every], every)


def test_refusals(network, data):
    names, every, images, _ = data
    suite = suite_of(names, clip=network)
    with pytest.raises(UniEmoError, match="'strange'"):
        suite.update(pictures(1), ["strange"])
    with pytest.raises(ValueError, match="as many; got 2 and 1"):
        suite.update(pictures(2), every[:1])
    suite.update([images[name] for name in every[1:]], every[1:])
    with pytest.raises(UniEmoError, match=f"1 of 36 never came, first {every[0]}"):
        suite.compute()
    three = emotion_output(network, lambda features: features[:, :3].softmax(1))
    with pytest.raises(ValueError, match=r"know 8 emotions.*gives 3"):
        suite_of(names, emotion=[three]).update([images[every[0]]], every[:1])


def _rank(rank, folder, data):
    names, every, images, real = data
    plan = plan_evaluation(names, MIKELS_8, SHORT)
    network = SmallNetwork()
    suite = MetricSuite(plan, outputs_of(network, protocols=SHORT), 5)
    if rank == 0:  # a rank may have no real image
        suite.update_real(*real)
    part = list(plan.part(rank, 2))
    mine = [plan.names[k] for k in (*part, *part[:3], (part[-1] + 1) % len(every))]  # repeats, and another rank's
    network.seen.clear()
    suite.update([images[name] for name in mine], mine)
    passes = len([view for view, _ in network.seen if view == "strict"])
    found = values(suite.compute())
    count = int(suite.real_statistics()[0].count.sum())
    np.savez(folder / f"{rank}.npz", values=found, passes=passes, real=count)


@needs_two_cores
def test_two_ranks_equal_one(network, data, tmp_path):
    names, _, images, real = data
    expected = values(evaluate(network, names, images, real, protocols=SHORT))
    two_ranks(_rank, tmp_path, tmp_path, data)
    parts = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    assert sum(int(part["passes"]) for part in parts) == sum(COUNTS)  # no image twice
    for part in parts:
        np.testing.assert_allclose(part["values"], expected, rtol=1e-5, atol=1e-9)
        assert int(part["real"]) == 60
