import pytest

from uniemo.errors import UniEmoError
from uniemo.taxonomy import EMOTION_ROI_6, MIKELS_8, POLARITY_2, label_map


def names(source, target):
    return label_map(source, target).names


def test_mappings_go_by_name():
    to_two = names(MIKELS_8, POLARITY_2)
    assert [name for name in MIKELS_8 if to_two[name] == "positive"] == list(MIKELS_8[:4])
    assert names(tuple(sorted(MIKELS_8)), POLARITY_2[::-1]) == to_two
    to_six = names(MIKELS_8, EMOTION_ROI_6)
    assert to_six["awe"] == "surprise"
    assert {to_six[name] for name in ("amusement", "contentment", "excitement")} == {"joy"}
    assert names(EMOTION_ROI_6, POLARITY_2)["surprise"] == "positive"
    assert names(MIKELS_8, tuple(sorted(MIKELS_8))) == {name: name for name in MIKELS_8}


def test_mappings_agree():
    six = names(MIKELS_8, EMOTION_ROI_6)
    two = names(EMOTION_ROI_6, POLARITY_2)
    assert {name: two[six[name]] for name in MIKELS_8} == names(MIKELS_8, POLARITY_2)


@pytest.mark.parametrize("target", [MIKELS_8, EMOTION_ROI_6, ("calm", "wild")])
def test_unknown_mapping(target):
    with pytest.raises(UniEmoError, match="cannot be mapped"):
        names(POLARITY_2, target)


def test_other_order_is_matched_by_name():
    labels = label_map(MIKELS_8, tuple(sorted(MIKELS_8)))
    assert labels.same_classes
    assert not labels.trivial
    assert [labels.target[i] for i in labels.index] == list(MIKELS_8)
    assert label_map(MIKELS_8, MIKELS_8).trivial


def test_conventions_are_called_so():
    assert "our convention" in label_map(MIKELS_8, EMOTION_ROI_6).describe()
    assert "our convention" in label_map(EMOTION_ROI_6, POLARITY_2).describe()
    eight_to_two = label_map(MIKELS_8, POLARITY_2).describe()
    assert "convention" not in eight_to_two
    assert "amusement, awe, contentment, excitement → positive" in eight_to_two


def test_classes_that_nothing_stands_for_are_named():
    assert "no class of the model stands for amusement, contentment" in label_map(("awe", "fear"), MIKELS_8).describe()
