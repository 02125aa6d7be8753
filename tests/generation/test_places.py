"""Mixtures of emotions for a point of valence and arousal."""

import json
import math

import pytest

from uniemo.errors import UniEmoError
from uniemo.generation.places import WORDS, mean_place, read_places, weights_at
from uniemo.taxonomy import EMOTION_ROI_6, MIKELS_8, POLARITY_2


def test_words_have_a_place_for_every_label_space():
    for emotions in (MIKELS_8, EMOTION_ROI_6, POLARITY_2):
        assert set(emotions) <= set(WORDS.points)
    assert all(1 <= value <= 9 for point in WORDS.points.values() for value in point)


def test_weights_by_hand():
    squares = {name: (6 - v) ** 2 + (3 - a) ** 2 for name, (v, a) in WORDS.points.items() if name in MIKELS_8}
    shares = {name: math.exp(-square / 2) for name, square in squares.items()}  # the spread is one step of nine
    kept = {name: share for name, share in shares.items() if share >= 0.01 * sum(shares.values())}
    wanted = {name: share / sum(kept.values()) for name, share in kept.items()}
    assert weights_at(6, 3, MIKELS_8) == pytest.approx(wanted, abs=1e-4)
    assert max(wanted, key=wanted.get) == "awe"


@pytest.mark.parametrize("emotion", MIKELS_8)
def test_an_emotions_own_place_is_the_emotion(emotion):
    weights = weights_at(*WORDS.points[emotion], MIKELS_8, spread=0.01)
    assert max(weights, key=weights.get) == emotion
    assert weights[emotion] > 0.98
    assert mean_place(weights, WORDS, (1, 9)) == pytest.approx(WORDS.points[emotion], abs=0.05)


def test_far_from_all_places_the_nearest_remains():
    assert weights_at(1, 9, MIKELS_8, spread=1e-4) == {"anger": 1.0}
    assert sum(weights_at(9, 1, MIKELS_8).values()) == pytest.approx(1, abs=1e-3)


def test_other_scales_name_the_same_point():
    assert weights_at(0.25, -0.5, MIKELS_8, scale=(-1, 1)) == weights_at(6, 3, MIKELS_8)
    weights = weights_at(6, 3, MIKELS_8)
    one_to_nine = mean_place(weights, WORDS, (1, 9))
    assert mean_place(weights, WORDS, (-1, 1)) == pytest.approx([value / 4 - 1.25 for value in one_to_nine])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"valence": 12}, r"valence must lie on its scale, 1 to 9; got 12: correct it, or give its own --scale"),
        ({"arousal": 0.5}, "arousal must lie on its scale"),
        ({"arousal": math.nan}, "got nan"),
        ({"scale": (1, 5)}, "valence must lie on its scale, 1 to 5"),
        ({"scale": (9, 1)}, "its least and its greatest value"),
        ({"emotions": ("awe", "animal", "object")}, r"norms of words .* has none for animal, object.*--places"),
    ],
)
def test_mistakes(arguments, match):
    with pytest.raises(UniEmoError, match=match):
        weights_at(**{"valence": 6, "arousal": 3, "emotions": MIKELS_8, **arguments})


def test_places_of_ones_own(tmp_path):
    path = tmp_path / "places.json"
    path.write_text(json.dumps({"scale": [1, 7], "places": {"animal": [5, 4], "object": [4, 2]}}))
    places = read_places(path)
    assert weights_at(5, 4, ("animal", "object"), places, spread=0.05) == {"animal": 1.0}
    for content, match in (
        ("no", "must be JSON such as"),
        ('{"places": {}}', "must be JSON such as"),
        ('{"scale": [1, 7], "places": {"awe": 3}}', "must be JSON such as"),
        ('{"scale": [7, 1], "places": {"awe": [3, 3]}}', "must be JSON such as"),
        ('{"scale": [1, 7], "places": {"awe": [3, 9]}}', r"that of awe in .* does not"),
    ):
        path.write_text(content)
        with pytest.raises(UniEmoError, match=match) as caught:
            read_places(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UniEmoError, match="must be an existing file"):
        read_places(tmp_path / "none.json")
