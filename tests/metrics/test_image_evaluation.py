import numpy as np
import pytest
import torch
from PIL import Image
from trees import drawn_index

from uniemo.data import EmoSet
from uniemo.data.generated import read_index
from uniemo.data.images import load_images, read_image
from uniemo.data.transforms import PairedTransform
from uniemo.errors import UniEmoError
from uniemo.generation import filter_index, score_index
from uniemo.metrics import EmotionClassifier, FeatureStatistics, Protocol, plan_evaluation
from uniemo.metrics.frechet import frechet_distance
from uniemo.metrics.image_batches import read_bytes
from uniemo.metrics.image_evaluation import ImageEvaluation
from uniemo.metrics.kid import kernel_estimates
from uniemo.metrics.networks import load_set
from uniemo.metrics.outputs import emotion_output
from uniemo.metrics.protocols import STRICT
from uniemo.metrics.sem_c import ZeroShotClarity
from uniemo.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def data(emoset_root):
    return EmoSet(str(emoset_root), 64, 32, 8)


@pytest.fixture(scope="module")
def classifier(clip):
    torch.manual_seed(0)
    return EmotionClassifier(clip.embed_dim, 8).eval()


def evaluation_by(clip, classifier, vocabulary):
    """Evaluate with one small CLIP in the place of all networks."""
    networks = load_set("miniature", (STRICT,), vocabulary, {"clip": clip.source})
    return ImageEvaluation(networks, emotion_output(networks.clip, classifier.probabilities), vocabulary)


@pytest.fixture(scope="module")
def evaluation(clip, classifier, data):
    return evaluation_by(clip, classifier, data.vocabulary)


@pytest.fixture(scope="module")
def real(evaluation, data):
    return evaluation.real_statistics(data.evaluation_loader("test"))


def evaluate_images(evaluation, images, real=None, **settings):
    """Evaluate images in memory, (n, 3, H, W) by emotion."""
    names = {emotion: [f"{emotion}/{row:06d}" for row in range(len(part))] for emotion, part in images.items()}

    def images_of(batches):
        for batch in batches:
            yield [images[emotion][int(row)] for emotion, row in (name.split("/") for name in batch)]

    return evaluation.evaluate(names, images_of, real, **settings)


def test_values_are_those_of_the_networks(evaluation, clip, classifier, data, real):
    """Every metric by hand, from the outputs of the CLIP."""
    generator = torch.Generator().manual_seed(0)
    names = data.vocabulary.emotions
    images = {name: torch.rand(4, 3, 32, 32, generator=generator) for name in ("fear", "awe")}
    found = evaluate_images(evaluation, images, real, pairs=3, seed=7, batch_size=3)

    output = evaluation.outputs["lpips"].network(torch.cat(list(images.values())))
    features, maps = output["features"], output["maps"]
    emotion = torch.tensor([names.index(name) for name in images]).repeat_interleave(4)
    probabilities = classifier.probabilities(features)
    order = {name: [f"{name}/{row:06d}" for row in range(4)] for name in images}
    plan = plan_evaluation(order, names, [Protocol("strict", pairs=3)], seed=7)
    row = [(0 if name.startswith("fear") else 4) + int(name[-6:]) for name in plan.names]
    pairs = plan.pairs["strict"]
    first, second = ([row[position] for position in side] for side in (pairs.first, pairs.second))
    assert len(first) == 6
    assert (emotion[first] == emotion[second]).all()
    clarity = ZeroShotClarity(clip, data.vocabulary)(features)
    double = features.double()
    expected = {  # with three pairs of either emotion, means over pairs and over emotions are one
        "FID": frechet_distance(*real.gaussian(), double.mean(0), torch.cov(double.T)),
        "LPIPS": (maps[first] - maps[second]).square().sum(1).mean(),
        "Emo-A": (probabilities.argmax(1) == emotion).double().mean(),
        "Emo-A probability": probabilities.gather(1, emotion[:, None]).mean(),
        "Sem-C": clarity.mean(),
        "Sem-D": (features[first] - features[second]).square().mean(),
    }
    labels = torch.zeros(len(real.rows), dtype=torch.long), torch.zeros(8, dtype=torch.long)
    expected["KID"] = kernel_estimates(real.rows, labels[0], features, labels[1], labels[1], 1)[0, 0]
    for name, value in expected.items():
        assert found[f"{name}[tiny-clip]"] == pytest.approx(float(value), rel=1e-5), name
    assert found["Sem-C[tiny-clip]/fear"] == pytest.approx(float(clarity[:4].mean()), rel=1e-5)
    assert {key.partition("/")[2] for key in found} == {"", "fear", "awe"}
    assert {key.partition("[")[0] for key in found} == set(expected)


def test_real_images_against_themselves(evaluation, data, real):
    loader = data.evaluation_loader("test")
    images = {name: [] for name in data.vocabulary.emotions}
    for batch in loader:
        for target, label in zip(batch.targets, batch.emotion.tolist(), strict=True):
            images[data.vocabulary.emotions[label]].append((target + 1) / 2)
    images = {name: torch.stack(part) for name, part in images.items()}
    found = evaluate_images(evaluation, images, real)
    assert found["FID[tiny-clip]"] == pytest.approx(0, abs=1e-5)
    assert found["FID[tiny-clip]/awe"] == pytest.approx(0, abs=1e-5)
    streamed = evaluation.evaluate_loader(loader)
    assert not any(key.startswith(("FID", "KID")) for key in streamed)
    assert streamed["Emo-A[tiny-clip]"] == pytest.approx(found["Emo-A[tiny-clip]"])


def test_real_images_are_those_that_evaluate_sees(tmp_path):
    """The same bytes from a data module's view and from ``--real_size``, halves of pixels included."""
    pixels = np.random.default_rng(0).integers(0, 256, (41, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "odd.jpg")
    _, target, _ = PairedTransform(32, 24)(read_image(tmp_path / "odd.jpg"), np.random.default_rng(0))
    assert torch.equal(((target + 1) / 2 * 255).round().to(torch.uint8), read_bytes(tmp_path / "odd.jpg", 24))


def test_refusals(evaluation, real):
    for images, match in (
        ({"awe": torch.rand(1, 3, 32, 32)}, "at least 2 images of each emotion; got fewer of awe"),
        ({}, "at least 2"),
        ({"boredom": torch.rand(2, 3, 32, 32)}, "boredom"),
    ):
        with pytest.raises(UniEmoError, match=match):
            evaluate_images(evaluation, images)
    foreign = FeatureStatistics("another network", **real.state())
    with pytest.raises(UniEmoError, match="same network"):
        evaluate_images(evaluation, {"awe": torch.rand(2, 3, 32, 32)}, foreign)


def test_without_attributes_there_is_no_sem_c(clip, classifier, data):
    bare = evaluation_by(clip, classifier, Vocabulary(data.vocabulary.emotions))
    found = evaluate_images(bare, {"awe": torch.rand(2, 3, 32, 32)})
    assert not any(key.startswith("Sem-C") for key in found)


def test_scores_of_an_index(clip, classifier, data, tmp_path):
    index = drawn_index(tmp_path / "drawn", ("awe", "fear"), per_emotion=5)
    rows = score_index(index.parent, clip, classifier, data.vocabulary, batch_size=4)
    assert rows == read_index(index)
    features = clip.features(load_images([index.parent / row["file"] for row in rows]))
    probabilities = classifier.probabilities(features)
    clarity = ZeroShotClarity(clip, data.vocabulary)(features)
    for i, row in enumerate(rows):
        assert row["emo_a"] == pytest.approx(
            float(probabilities[i, data.vocabulary.emotion_index(row["emotion"])]), rel=1e-4
        )
        assert row["sem_c"] == pytest.approx(float(clarity[i]), rel=1e-4)
        assert row["network"] == "tiny-clip"
    assert sum(filter_index(index, tmp_path / "kept").values()) > 0
