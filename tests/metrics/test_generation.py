import pytest
import torch
from trees import drawn_index

from uniemo.data import EmoSet
from uniemo.data.generated import read_index
from uniemo.data.images import load_images
from uniemo.errors import UniEmoError
from uniemo.generation import filter_index, score_index
from uniemo.metrics import (
    ClarityReader,
    EmotionAccuracy,
    EmotionClassifier,
    FeatureStatistics,
    FrechetDistance,
    PairwiseDistance,
    SemanticDiversity,
    evaluate_images,
    images_by_emotion,
    real_statistics,
)
from uniemo.metrics.clip_networks import MiniatureNetwork
from uniemo.metrics.pairs import plan_evaluation
from uniemo.metrics.protocols import Protocol
from uniemo.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def data(emoset_root):
    return EmoSet(str(emoset_root), 64, 32, 8)


@pytest.fixture(scope="module")
def classifier(networks):
    torch.manual_seed(0)
    return EmotionClassifier(networks.clip.embed_dim, 8).eval()


@pytest.fixture(scope="module")
def real(networks, data):
    return real_statistics(networks, data.evaluation_loader("test"), data.vocabulary)


def test_figures_are_those_of_the_metrics(networks, classifier, data, real):
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.rand(4, 3, 32, 32, generator=generator) for name in ("fear", "awe")}
    figures = evaluate_images(networks, classifier, images, real, data.vocabulary, pairs=3, seed=7, batch_size=3)

    every = torch.cat([images["fear"], images["awe"]])
    emotion = torch.tensor([data.vocabulary.emotion_index("fear")] * 4 + [data.vocabulary.emotion_index("awe")] * 4)
    output = MiniatureNetwork(networks.clip)(every)
    accuracy = EmotionAccuracy(8)
    accuracy.update(classifier.probabilities(output["features"]), emotion)
    fid = FrechetDistance(networks.clip.embed_dim)
    for batch in data.evaluation_loader("test"):
        fid.update(networks.clip.features((batch.targets + 1) / 2), real=True)
    fid.update(output["features"], real=False)
    lpips, diversity = PairwiseDistance(8), SemanticDiversity(8)
    order = {name: [f"{name}/{row:06d}" for row in range(4)] for name in images}
    plan = plan_evaluation(order, data.vocabulary.emotions, [Protocol("strict", pairs=3)], seed=7)
    chosen = plan.pairs["strict"]
    row = [(0 if name.startswith("fear") else 4) + int(name[-6:]) for name in plan.names]
    first, second = ([row[position] for position in side] for side in (chosen.first, chosen.second))
    assert len(first) == 6
    assert (emotion[first] == emotion[second]).all()
    lpips.update(output["maps"][first], output["maps"][second], emotion[first])
    diversity.update(output["features"][first], output["features"][second], emotion[first])
    clarity = ClarityReader(networks.clip, data.vocabulary)(output["features"])
    for name, expected in (
        ("FID", fid.compute()),
        ("LPIPS", lpips.compute()),
        ("Emo-A", accuracy.compute()["accuracy"]),
        ("Emo-A probability", accuracy.compute()["probability"]),
        ("Sem-C", clarity.mean()),
        ("Sem-D", diversity.compute()),
    ):
        assert figures[f"{name}[tiny-clip]"] == pytest.approx(float(expected), rel=1e-5), name
    assert figures["Sem-C[tiny-clip]/fear"] == pytest.approx(float(clarity[:4].mean()), rel=1e-5)
    assert {key.partition("/")[2] for key in figures} == {"", "fear", "awe"}


def test_pair_figures_are_block_distances(networks, classifier, data):
    images = {"awe": torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    figures = evaluate_images(networks, classifier, images, None, data.vocabulary)
    first, second = MiniatureNetwork(networks.clip)(images["awe"])["maps"]
    distance = float((first - second).square().sum())
    assert figures["LPIPS[tiny-clip]"] == pytest.approx(distance, rel=1e-2)
    assert not any(key.startswith("FID") for key in figures)


def test_real_images_against_themselves(networks, classifier, data, real):
    images = images_by_emotion(data.evaluation_loader("test"), data.vocabulary)
    assert sum(map(len, images.values())) == int(real.count.sum()) == 16
    figures = evaluate_images(networks, classifier, images, real, data.vocabulary)
    assert figures["FID[tiny-clip]"] == pytest.approx(0, abs=1e-5)
    assert figures["FID[tiny-clip]/awe"] == pytest.approx(0, abs=1e-5)


def test_view_decides_the_resolution(networks, data, real):
    other = real_statistics(networks, data.evaluation_loader("test"), data.vocabulary, view="image")
    assert not torch.allclose(other.total, real.total)


def test_refusals(networks, classifier, data, real):
    one = {"awe": torch.rand(1, 3, 32, 32)}
    with pytest.raises(UniEmoError, match="at least 2 images of each emotion; got fewer of awe"):
        evaluate_images(networks, classifier, one, None, data.vocabulary)
    with pytest.raises(UniEmoError, match="at least 2"):
        evaluate_images(networks, classifier, {}, None, data.vocabulary)
    with pytest.raises(UniEmoError, match="boredom"):
        evaluate_images(networks, classifier, {"boredom": torch.rand(2, 3, 32, 32)}, None, data.vocabulary)
    foreign = FeatureStatistics.from_state(real.state(), "another network")
    with pytest.raises(UniEmoError, match="same network"):
        evaluate_images(networks, classifier, {"awe": torch.rand(2, 3, 32, 32)}, foreign, data.vocabulary)


def test_without_attributes_there_is_no_sem_c(networks, classifier, data):
    bare = Vocabulary(data.vocabulary.emotions)
    figures = evaluate_images(networks, classifier, {"awe": torch.rand(2, 3, 32, 32)}, None, bare)
    assert not any(key.startswith("Sem-C") for key in figures)


def test_scores_of_an_index(networks, classifier, data, tmp_path):
    index = drawn_index(tmp_path / "drawn", ("awe", "fear"), per_emotion=5)
    rows = score_index(index.parent, networks, classifier, data.vocabulary, batch_size=4)
    assert rows == read_index(index)
    features = networks.clip.features(load_images([index.parent / row["file"] for row in rows]))
    probabilities = classifier.probabilities(features)
    clarity = ClarityReader(networks.clip, data.vocabulary)(features)
    for i, row in enumerate(rows):
        assert row["emo_a"] == pytest.approx(
            float(probabilities[i, data.vocabulary.emotion_index(row["emotion"])]), rel=1e-4
        )
        assert row["sem_c"] == pytest.approx(float(clarity[i]), rel=1e-4)
        assert row["network"] == "tiny-clip"
    assert sum(filter_index(index, tmp_path / "kept").values()) > 0
