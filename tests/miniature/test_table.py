"""The emotion table has the properties that the miniature's task rests on."""

import itertools

import numpy as np
import pytest

from uniemo.errors import UniEmoError
from uniemo.miniature import table


def test_emotions_are_balanced() -> None:
    weights = table.cell_weights()
    assert weights.shape == (8, 16)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() > 0.5 / weights.size
    assert weights.max() < 1.5 / weights.size
    np.testing.assert_allclose(np.einsum("so,soe->e", weights, table.emotion_table()), 1 / 8)


def test_both_together_tell_the_emotion_and_neither_does_alone() -> None:
    best = table.best_accuracy()
    assert 0.90 <= best <= 0.93
    assert table.scene_only_accuracy() <= 0.60
    assert table.object_only_accuracy() <= 0.60


def test_a_sum_stays_behind() -> None:
    additive = table.additive_accuracy()
    assert additive <= table.best_accuracy() - 0.13
    assert additive > table.object_only_accuracy()  # the fit did not merely fail


def test_the_same_object_means_another_emotion_elsewhere() -> None:
    assert table.dominant_emotion("battlefield", "flame") == "anger"
    assert table.dominant_emotion("graveyard", "flame") == "fear"
    with pytest.raises(UniEmoError, match=r"scene must be one of .*got 'office'"):
        table.dominant_emotion("office", "flame")
    with pytest.raises(UniEmoError, match=r"object must be one of .*got 'pen'"):
        table.dominant_emotion("forest", "pen")


def test_documented_groups_match_the_rules() -> None:
    assert tuple(itertools.chain(*table.MOODS.values())) == table.SCENES
    assert tuple(itertools.chain(*table.ROLES.values())) == table.OBJECTS
    rules = {(mood, role): {table.dominant_emotion(s, o) for s in scenes for o in objects}
             for mood, scenes in table.MOODS.items() for role, objects in table.ROLES.items()}  # fmt: skip
    assert sum(len(emotions) > 1 for emotions in rules.values()) == 1  # the documented exception
