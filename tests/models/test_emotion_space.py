import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.models.emotion_space import SAMPLERS, EmotionSpace, EmotionSpaceConfig, seeded


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    emotion = torch.tensor([0, 1] * 20)
    features = {kind: torch.randn(40, 4, generator=generator) + 5 * emotion[:, None] for kind in ("cls", "scene")}
    return features, emotion


@pytest.fixture
def space(data):
    space = EmotionSpace(3, 4, ("cls", "scene"))
    space.fit(*data, EmotionSpaceConfig(bank_size=8))
    return space


def sampled(space, emotion, seeds, kind="variation", noise=0.1):
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


def test_variation_samples_whole_sets_of_one_image(space, data):
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


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sample_depends_on_its_seed_only(space, kind):
    whole, alone = sampled(space, 0, [5, 6, 7], kind), sampled(space, 0, [6], kind)
    for name in whole:
        assert torch.equal(whole[name][1:2], alone[name])
        assert not torch.equal(whole[name][0], whole[name][1])


def test_loads_into_an_empty_space_whatever_the_bank_size(space, data):
    other = EmotionSpace(3, 4, ("cls", "scene"))
    other.load_state_dict(space.state_dict())
    assert torch.equal(sampled(other, 0, [1])["scene"], sampled(space, 0, [1])["scene"])
    other.fit(*data, EmotionSpaceConfig(bank_size=20))
    other.load_state_dict(space.state_dict())
    assert len(other.bank_cls) == 16


def test_refitting_is_reproducible(space, data):
    again = EmotionSpace(3, 4, ("cls", "scene"))
    again.fit(*data, EmotionSpaceConfig(bank_size=8))
    assert torch.equal(again.bank_cls, space.bank_cls)
    again.fit(*data, EmotionSpaceConfig(bank_size=8), seed=1)
    assert not torch.equal(again.bank_cls, space.bank_cls)


def test_unseen_emotion_is_named(space):
    with pytest.raises(UniEmoError, match="images of emotion 2"):
        sampled(space, 2, [0])


def test_seeds_do_not_share_the_image_noise_stream():
    assert not torch.equal(
        torch.randn(4, generator=seeded(3, 0)), torch.randn(4, generator=torch.Generator().manual_seed(3))
    )
    assert not torch.equal(torch.randn(4, generator=seeded(3, 0)), torch.randn(4, generator=seeded(3, 1)))


def test_mixture_samples_all_kinds_from_one_component():
    """Two modes, in which class and scene go together; independent Gaussians would mix them."""
    generator = torch.Generator().manual_seed(0)
    mode = torch.arange(60) % 3 // 2  # twice as many in mode 0
    features = {
        name: torch.randn(60, 4, generator=generator) + 50 * sign * (2 * mode[:, None] - 1)
        for name, sign in (("cls", 1), ("scene", -1))
    }
    space = EmotionSpace(2, 4, ("cls", "scene"))
    space.fit(features, torch.ones(60, dtype=torch.int64), EmotionSpaceConfig(components=2))
    assert space.mixture_emotion.tolist() == [1, 1]
    assert sorted(space.mixture_weight.tolist()) == pytest.approx([1 / 3, 2 / 3])
    found = sampled(space, 1, range(600), "mixture")
    second = found["cls"].mean(1) > 0
    assert torch.equal(second, found["scene"].mean(1) < 0)
    assert float(second.float().mean()) == pytest.approx(1 / 3, abs=0.06)
    assert found["cls"][~second].mean(0) == pytest.approx(features["cls"][mode == 0].mean(0), abs=0.25)
    assert found["cls"][~second].std(0) == pytest.approx(features["cls"][mode == 0].std(0), rel=0.15)
    assert len({tuple(row) for row in found["cls"].tolist()}) == 600


def test_one_image_of_an_emotion_is_its_mixture():
    features = {"cls": torch.randn(5, 4)}
    space = EmotionSpace(2, 4, ("cls",))
    space.fit(features, torch.tensor([0, 0, 0, 0, 1]))
    assert torch.equal(sampled(space, 1, [3], "mixture")["cls"], features["cls"][4:])
    assert space.distances([{1: 1.0}], [3], "mixture", 0.1) is None


def test_space_without_mixture_says_what_it_can_sample(space):
    """Emotion spaces of earlier versions have images alone, published ones means and deviations."""
    state = space.state_dict()
    older = EmotionSpace(3, 4, ("cls", "scene"))
    older.load_state_dict({name: value for name, value in state.items() if "mixture" not in name}, strict=False)
    assert older.samplers(0) == ["variation", "gaussian"]
    with pytest.raises(UniEmoError, match="does not: take --space variation or gaussian"):
        sampled(older, 0, [0], "mixture")
    assert torch.equal(sampled(older, 0, [1])["cls"], sampled(space, 0, [1])["cls"])


def test_bank_is_the_old_name_of_variation(space):
    with pytest.warns(UserWarning, match="space bank is now called variation"):
        assert EmotionSpaceConfig(kind="bank").kind == "variation"
    with pytest.warns(UserWarning, match="now called variation"):
        assert torch.equal(sampled(space, 0, [1], "bank")["cls"], sampled(space, 0, [1])["cls"])
    with pytest.raises(UniEmoError, match=r"space\.components must be at least 1; got 0"):
        EmotionSpaceConfig(components=0)


def test_distances_to_the_nearest_training_image(space):
    kept = torch.cat([space.bank_cls, space.bank_scene], dim=1)

    def reference(emotion, kind, seed, noise):
        found = sampled(space, emotion, [seed], kind, noise)
        row = torch.cat([found["cls"], found["scene"]], dim=1)
        return min(float((row - image).norm()) for image in kept[space.bank_emotion == emotion])

    for kind in SAMPLERS:
        found, between = space.distances([{0: 1.0}, {0: 0.4, 1: 0.6}], [5, 6], kind, 0.1)
        wanted = [reference(0, kind, 5, 0.1), min(reference(emotion, kind, 6, 0.1) for emotion in (0, 1))]
        assert found.tolist() == pytest.approx(wanted, rel=1e-4)
    gaps = [min(float((kept[i] - kept[j]).norm()) for j in range(16) if i != j and i // 8 == j // 8) for i in range(16)]
    assert between == pytest.approx(sorted(gaps)[7], rel=1e-4)
    exact, _ = space.distances([{0: 1.0}] * 4, range(4), "variation", 0.0)
    assert exact.tolist() == pytest.approx([0] * 4, abs=1e-2)
