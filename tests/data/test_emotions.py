import pytest

from uniemo.data.emotions import EMOTION_ROI_6, MIKELS_8, POLARITY_2, emotion_mapping
from uniemo.errors import UniEmoError


def test_mappings_go_by_name():
    to_two = emotion_mapping(MIKELS_8, POLARITY_2)
    assert [name for name in MIKELS_8 if to_two[name] == "positive"] == list(MIKELS_8[:4])
    assert emotion_mapping(tuple(sorted(MIKELS_8)), POLARITY_2[::-1]) == to_two
    to_six = emotion_mapping(MIKELS_8, EMOTION_ROI_6)
    assert to_six["awe"] == "surprise"
    assert {to_six[name] for name in ("amusement", "contentment", "excitement")} == {"joy"}
    assert emotion_mapping(EMOTION_ROI_6, POLARITY_2)["surprise"] == "positive"
    assert emotion_mapping(MIKELS_8, tuple(sorted(MIKELS_8))) == {name: name for name in MIKELS_8}


def test_mappings_agree():
    six = emotion_mapping(MIKELS_8, EMOTION_ROI_6)
    two = emotion_mapping(EMOTION_ROI_6, POLARITY_2)
    assert {name: two[six[name]] for name in MIKELS_8} == emotion_mapping(MIKELS_8, POLARITY_2)


def test_unknown_mapping():
    with pytest.raises(UniEmoError, match="cannot be mapped"):
        emotion_mapping(POLARITY_2, MIKELS_8)
