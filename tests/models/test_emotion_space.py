import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.models.emotion_space import EmotionSpace, seeded


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    emotion = torch.tensor([0, 1] * 20)
    features = {kind: torch.randn(40, 4, generator=generator) + 5 * emotion[:, None] for kind in ("cls", "scene")}
    return features, emotion


@pytest.fixture
def space(data):
    space = EmotionSpace(3, 4, ("cls", "scene"))
    space.fit(*data, bank_size=8)
    return space


def sampled(space, emotion, seeds, kind="bank", noise=0.1):
    return space.sample(emotion, [seeded(seed, emotion) for seed in seeds], kind, noise)


def test_statistics_use_all_images_and_the_bank_is_bounded(space, data):
    features, emotion = data
    for kind in ("cls", "scene"):
        for y in (0, 1):
            mine = features[kind][emotion == y]
            assert torch.allclose(getattr(space, f"mean_{kind}")[y], mine.mean(0), atol=1e-6)
            assert torch.allclose(getattr(space, f"std_{kind}")[y], mine.std(0, correction=0), atol=1e-6)
    assert torch.bincount(space.bank_emotion).tolist() == [8, 8]
    assert space.fitted
    assert not EmotionSpace(3, 4, ("cls",)).fitted


def test_bank_samples_whole_sets_of_one_image(space, data):
    features, emotion = data
    found = sampled(space, 1, range(30), noise=0.0)
    for cls, scene in zip(found["cls"], found["scene"], strict=True):
        same = (features["cls"] == cls).all(1)
        assert same.sum() == 1
        assert emotion[same] == 1
        assert torch.equal(features["scene"][same][0], scene)
    noisy = sampled(space, 1, range(30), noise=0.1)
    shift = (noisy["cls"] - found["cls"]) / space.std_cls[1]
    assert 0.07 < float(shift.std()) < 0.13


def test_gaussian_has_the_emotions_mean_and_deviation(space):
    found = sampled(space, 0, range(3000), "gaussian")["cls"]
    assert torch.allclose(found.mean(0), space.mean_cls[0], atol=0.1)
    assert torch.allclose(found.std(0), space.std_cls[0], atol=0.1)


@pytest.mark.parametrize("kind", ["bank", "gaussian"])
def test_a_sample_depends_on_its_seed_only(space, kind):
    whole, alone = sampled(space, 0, [5, 6, 7], kind), sampled(space, 0, [6], kind)
    for name in whole:
        assert torch.equal(whole[name][1:2], alone[name])
        assert not torch.equal(whole[name][0], whole[name][1])


def test_loads_into_an_empty_space_whatever_the_bank_size(space, data):
    other = EmotionSpace(3, 4, ("cls", "scene"))
    other.load_state_dict(space.state_dict())
    assert torch.equal(sampled(other, 0, [1])["scene"], sampled(space, 0, [1])["scene"])
    other.fit(*data, bank_size=20)
    other.load_state_dict(space.state_dict())
    assert len(other.bank_cls) == 16


def test_refitting_is_reproducible(space, data):
    again = EmotionSpace(3, 4, ("cls", "scene"))
    again.fit(*data, bank_size=8)
    assert torch.equal(again.bank_cls, space.bank_cls)
    again.fit(*data, bank_size=8, seed=1)
    assert not torch.equal(again.bank_cls, space.bank_cls)


def test_unseen_emotion_is_named(space):
    with pytest.raises(UniEmoError, match="images of emotion 2"):
        sampled(space, 2, [0])


def test_seeds_do_not_share_the_image_noise_stream():
    assert not torch.equal(
        torch.randn(4, generator=seeded(3, 0)), torch.randn(4, generator=torch.Generator().manual_seed(3))
    )
    assert not torch.equal(torch.randn(4, generator=seeded(3, 0)), torch.randn(4, generator=seeded(3, 1)))
