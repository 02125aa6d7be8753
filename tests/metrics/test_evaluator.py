import collections
import itertools

import numpy as np
import pytest
import torch
from small import SmallNetwork, evaluate, names_of, pictures, readings_of, values

from uniemo.data.emotions import MIKELS_8
from uniemo.errors import UniEmoError
from uniemo.metrics import EMOGEN, STRICT, Evaluator, FeatureStatistics, Protocol, plan_evaluation
from uniemo.metrics.protocols import ProtocolReadings, emotion_reading, protocol_readings

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


def test_each_image_passes_each_network_and_view_once(network, data):
    names, every, images, _ = data
    second = SmallNetwork(seed=5, name="second")
    evaluate(network, names, images, protocols=SHORT, second=second)
    strict = collections.Counter(number for view, number in network.seen if view == "strict")
    assert strict == dict.fromkeys(range(len(every)), 1)
    # what only a pair needs is not run on images that are in none
    plan = plan_evaluation(names, MIKELS_8, SHORT)
    paired = {plan.names[k] for side in (plan.pairs["emogen"].first, plan.pairs["emogen"].second) for k in side}
    darker = collections.Counter(number for view, number in network.seen if view == "emogen")
    fid_too = dict.fromkeys(range(len(every)), 1)  # FID by torchmetrics' recipe reads this view of every image
    assert darker == fid_too
    network.seen.clear()
    plan = plan_evaluation(names, MIKELS_8, SHORT)
    bare = {"emogen": protocol_readings(EMOGEN, lpips=network, clip=network)}
    evaluator = Evaluator(plan, bare, 7)
    evaluator.add([images[name] for name in plan.names], plan.names)
    assert collections.Counter(network.seen) == {("emogen", every.index(name)): 1 for name in paired}
    assert collections.Counter(number for _, number in second.seen) == dict.fromkeys(range(len(every)), 1)


def test_vectors_are_kept_no_longer_than_needed(network):
    for count in (60, 240):
        names, _ = names_of((count, count))
        plan = plan_evaluation(names, MIKELS_8, [Protocol("strict", pairs=3 * count)])
        evaluator = Evaluator(plan, readings_of(network, protocols=[STRICT]), 8)
        images = pictures(1)[0]
        kept = []
        for start in range(0, len(plan.names), 8):
            part = plan.names[start : start + 8]
            evaluator.add([images] * len(part), part)
            kept.append(max(len(c.store.kept) for c in evaluator._collectors if hasattr(c, "store")))
        assert max(kept) <= 6  # the last three, and the first three of the ring
        assert kept[-1] == 0
        statistics = evaluator._taken["strict"].fid.statistics
        assert [tuple(x.shape) for x in statistics.state().values()] == [(8,), (8, 6), (8, 6, 6)]


def test_order_batches_and_mixed_sizes_do_not_matter(network, data):
    names, every, images, real = data
    expected = evaluate(network, names, images, real, protocols=SHORT)
    shuffled = {emotion: part[::-1] for emotion, part in reversed(names.items())}
    others = [
        evaluate(network, shuffled, images, real, order=every[::-1], batch=5, protocols=SHORT),
        evaluate(network, names, images, real, order=[*every, *every[:9]], batch=50, protocols=SHORT),
    ]
    for other in others:
        np.testing.assert_allclose(values(other), values(expected), rtol=1e-5, atol=1e-9)
    bigger = images | {name: images[name].repeat_interleave(2, 1).repeat_interleave(2, 2) for name in every[::2]}
    mixed = evaluate(network, names, bigger, real, protocols=SHORT)
    np.testing.assert_allclose(values(mixed), values(expected), rtol=1e-5, atol=1e-9)
    levels = {name: (image * 255).round().byte() for name, image in images.items()}
    turned = {name: image.float() / 255 for name, image in levels.items()}
    np.testing.assert_allclose(values(evaluate(network, names, levels)), values(evaluate(network, names, turned)))


def test_protocols_share_what_they_agree_on(network, data):
    names, _, images, real = data
    result = evaluate(network, names, images, real)
    strict, emogen = result["strict"], result["emogen"]
    assert strict.figures["Emo-A"] == emogen.figures["Emo-A"]
    assert strict.figures["FID"].value != emogen.figures["FID"].value
    assert strict.pairs == {"amusement": 66, "awe": 36, "contentment": 105}  # fewer than 1,000 exist: all
    assert emogen.pairs == {"amusement": 10, "awe": 10, "contentment": 10}
    assert strict.images == dict(zip(MIKELS_8, COUNTS, strict=False))
    assert strict.real_images == {"amusement": 20, "awe": 20, "contentment": 20}
    assert set(strict.figures) == {*("FID", "LPIPS", "Emo-A", "Emo-A probability", "Emo-A two-class", "Sem-C", "Sem-D")}
    for figure in strict.figures.values():
        assert figure.low <= figure.value <= figure.high
        assert figure.networks[0].name == "small"
        assert list(figure.by_emotion) == list(MIKELS_8[:3])


def test_second_classifier_and_confusion(network, data):
    names, _, images, _ = data
    second = SmallNetwork(seed=5, name="second")
    figures = evaluate(network, names, images, second=second)["strict"]
    assert figures.figures["Emo-A (second)"].networks == (second.info,)
    assert figures.figures["Emo-A (second)"].value == np.trace(figures.confusion[1]) / sum(COUNTS)
    assert figures.figures["Emo-A"].value == np.trace(figures.confusion[0]) / sum(COUNTS)
    assert figures.confusion[0].sum(axis=1).tolist() == [*COUNTS, 0, 0, 0, 0, 0]


def test_real_statistics_come_back_from_a_cache(network, data):
    names, every, images, real = data
    plan = plan_evaluation(names, MIKELS_8, [STRICT])
    first, second = (Evaluator(plan, readings_of(network, protocols=[STRICT])) for _ in range(2))
    ids = [str(k) for k in range(60)]
    first.add_real(real[0][:40], real[1][:40], ids[:40])
    first.add_real(real[0][20:], real[1][20:], ids[20:])  # twenty come twice
    saved = first.real_statistics()["strict"]
    assert int(saved.count.sum()) == 60
    second.use_real("strict", FeatureStatistics.from_state(saved.state(), saved.network))
    for evaluator in (first, second):
        evaluator.add([images[name] for name in every], every)
    np.testing.assert_array_equal(values(first.result()), values(second.result()))
    other = FeatureStatistics.from_state(saved.state(), saved.network.replace("strict", "emogen"))
    with pytest.raises(UniEmoError, match="same network"):
        second.use_real("strict", other)


def test_identical_folders(network, data):
    names, every, images, _ = data
    labels = torch.tensor([MIKELS_8.index(name.split("/")[0]) for name in every])
    figure = evaluate(network, names, images, (torch.stack([images[n] for n in every]), labels))["strict"].figures[
        "FID"
    ]
    assert figure.value == pytest.approx(0, abs=1e-8)
    assert max(part.value for part in figure.by_emotion.values()) == pytest.approx(0, abs=1e-8)


def test_swapped_sides_give_the_same_fid(network):
    """FID cannot tell which side is real; the other figures are of whichever side is given as generated."""
    names, every = names_of((30, 30))
    both = [dict(zip(every, pictures(60, seed=seed) ** (1 + seed), strict=True)) for seed in (0, 1)]
    labels = torch.arange(60) // 30
    results = [
        evaluate(network, names, ours, (torch.stack(list(theirs.values())), labels))["strict"].figures
        for ours, theirs in (both, both[::-1])
    ]
    assert results[0]["FID"].value == pytest.approx(results[1]["FID"].value, rel=1e-6)
    assert results[0]["Sem-D"].value != pytest.approx(results[1]["Sem-D"].value, rel=1e-3)


def test_shuffled_labels_give_chance():
    count = 8 * 100
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(8), 100))
    names, every = names_of((100,) * 8)
    perfect = SmallNetwork()
    perfect.head = lambda features: torch.eye(8)[torch.as_tensor(perfect.truth[perfect.numbers])]
    images = dict(zip(every, pictures(count, size=4), strict=True))
    for truth, low, high in ((np.repeat(np.arange(8), 100), 1, 1), (labels, 0.125 - 0.035, 0.125 + 0.035)):
        perfect.truth = truth
        plan = plan_evaluation(names, MIKELS_8, [STRICT])
        evaluator = Evaluator(plan, {"strict": ProtocolReadings(emotion=(emotion_reading(perfect, perfect.head),))}, 50)
        evaluator.add([images[name] for name in every], every)
        figures = evaluator.result()["strict"].figures
        assert low <= figures["Emo-A"].value <= high
        assert figures["Emo-A two-class"].value == 1 if low == 1 else 0.42 < figures["Emo-A two-class"].value < 0.58


def test_a_figure_without_its_network_is_left_out(network, data):
    names, every, images, _ = data
    plan = plan_evaluation(names, MIKELS_8, [STRICT])
    evaluator = Evaluator(plan, {"strict": protocol_readings(STRICT, clip=network, fid=network)})
    evaluator.add([images[name] for name in every], every)
    assert list(evaluator.result()["strict"].figures) == ["Sem-D"]  # and no FID without real images


@pytest.mark.parametrize("key", ["features", "maps"])
def test_nan_names_the_image(network, data, key):
    names, every, images, real = data
    network.broken = 20
    plan = plan_evaluation(names, MIKELS_8, [STRICT])
    single = {"fid": network} if key == "features" else {"lpips": network}
    evaluator = Evaluator(plan, {"strict": protocol_readings(STRICT, **single)})
    with pytest.raises(UniEmoError, match=f"finite.*{every[20]}"):
        evaluator.add([images[name] for name in every], every)
    with pytest.raises(UniEmoError, match=r"finite.*r20"):
        Evaluator(plan, readings_of(network, protocols=[STRICT])).add_real(
            real[0], real[1], [f"r{k}" for k in range(60)]
        )


def test_bad_pictures_are_named(network, data):
    names, every, images, _ = data
    for spoiled, match in ((images[every[3]] * 300, "0, 1"), (images[every[3]] * torch.nan, "0, 1")):
        evaluator = Evaluator(plan_evaluation(names, MIKELS_8, [STRICT]), readings_of(network, protocols=[STRICT]))
        with pytest.raises(UniEmoError, match=f"{every[3]}: .*{match}"):
            evaluator.add([spoiled if name == every[3] else images[name] for name in every], every)


def test_refusals(network, data):
    names, every, images, _ = data
    plan = plan_evaluation(names, MIKELS_8, [STRICT])
    readings = readings_of(network, protocols=[STRICT])
    with pytest.raises(UniEmoError, match="'emogen'"):
        Evaluator(plan, readings_of(network))
    evaluator = Evaluator(plan, readings)
    with pytest.raises(UniEmoError, match="'strange'"):
        evaluator.add(pictures(1), ["strange"])
    with pytest.raises(UniEmoError, match="as many; got 2 and 1"):
        evaluator.add(pictures(2), every[:1])
    evaluator.add([images[name] for name in every[1:]], every[1:])
    with pytest.raises(UniEmoError, match=f"1 of 36 never came, first {every[0]}"):
        evaluator.result()
    three = ProtocolReadings(emotion=(emotion_reading(network, lambda features: features[:, :3].softmax(1)),))
    with pytest.raises(UniEmoError, match=r"tell 8 emotions apart.*gives 3"):
        Evaluator(plan, {"strict": three}).add([images[every[0]]], every[:1])


def _rank(rank, ranks, path):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{path}/rendezvous", rank=rank, world_size=ranks)
    names, every = names_of(COUNTS)
    images = dict(zip(every, pictures(sum(COUNTS)), strict=True))
    real = pictures(60, seed=1), torch.arange(60) % 3
    plan = plan_evaluation(names, MIKELS_8, SHORT)
    network = SmallNetwork()
    evaluator = Evaluator(plan, readings_of(network, protocols=SHORT), 5)
    evaluator.add_real(real[0][rank::ranks], real[1][rank::ranks])
    part = list(plan.part(rank, ranks))
    mine = [plan.names[k] for k in (*part, *part[:3], (part[-1] + 1) % len(every))]  # repeats, and another rank's
    network.seen.clear()
    evaluator.add([images[name] for name in mine], mine)
    passes = len([view for view, _ in network.seen if view == "strict"])
    np.savez(f"{path}/{rank}.npz", values=values(evaluator.result()), passes=passes)
    torch.distributed.destroy_process_group()


@pytest.mark.skipif("fork" not in torch.multiprocessing.get_all_start_methods(), reason="needs fork")
def test_two_ranks_equal_one(network, data, tmp_path):
    names, _, images, real = data
    expected = values(evaluate(network, names, images, real, protocols=SHORT))
    # as a data loader starts its workers: fork, one thread each
    torch.multiprocessing.start_processes(_rank, (2, str(tmp_path)), nprocs=2, start_method="fork")
    parts = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    assert sum(int(part["passes"]) for part in parts) == sum(COUNTS)  # no image twice
    for part in parts:
        np.testing.assert_allclose(part["values"], expected, rtol=1e-5, atol=1e-9)


def test_plan_covers_every_image_once():
    names, every = names_of(COUNTS)
    plan = plan_evaluation(names, MIKELS_8, [STRICT, EMOGEN])
    assert sorted(plan.names) == sorted(every)
    for ranks in (1, 2, 3, 5):
        parts = [plan.part(rank, ranks) for rank in range(ranks)]
        assert list(itertools.chain(*parts)) == list(range(len(every)))
