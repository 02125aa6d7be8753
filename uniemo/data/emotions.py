"""Emotion label spaces and the mappings between them, always by name.

Datasets sort their class folders differently and number two-class labels either way round, so an index never says which
emotion is meant; a name does.
"""

from __future__ import annotations

from uniemo.errors import UniEmoError

MIKELS_8: tuple[str, ...] = (  # EmoSet's own index order (info.json)
    "amusement",
    "awe",
    "contentment",
    "excitement",
    "anger",
    "disgust",
    "fear",
    "sadness",
)
EMOTION_ROI_6: tuple[str, ...] = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
POLARITY_2: tuple[str, ...] = ("positive", "negative")  # EmoSet's two-class order: 0 is positive

TAXONOMIES: dict[str, tuple[str, ...]] = {"mikels8": MIKELS_8, "emotionroi6": EMOTION_ROI_6, "polarity2": POLARITY_2}

# The first four of Mikels' emotions are the positive ones (EmoSet).
EIGHT_TO_TWO: dict[str, str] = {name: "positive" if i < 4 else "negative" for i, name in enumerate(MIKELS_8)}

# No published standard: this convention is ours and is called so wherever its figures are shown.
EIGHT_TO_SIX: dict[str, str] = {
    "amusement": "joy",
    "contentment": "joy",
    "excitement": "joy",
    "awe": "surprise",
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "sadness": "sadness",
}

SIX_TO_TWO: dict[str, str] = {
    "joy": "positive",
    "surprise": "positive",
    "anger": "negative",
    "disgust": "negative",
    "fear": "negative",
    "sadness": "negative",
}

_MAPPINGS: tuple[dict[str, str], ...] = (EIGHT_TO_TWO, EIGHT_TO_SIX, SIX_TO_TWO)


def emotion_mapping(source: tuple[str, ...], target: tuple[str, ...]) -> dict[str, str]:
    """Return the mapping from every emotion of one label space to one of another.

    Args:
        source: emotion names, in any order.
        target: emotion names, in any order.

    Returns:
        ``{source name: target name}``; the identity where both spaces hold the same names.

    Raises:
        UniEmoError: no mapping between the two label spaces is known.
    """
    if set(source) <= set(target):
        return {name: name for name in source}
    for mapping in _MAPPINGS:
        if set(source) <= set(mapping) and {mapping[name] for name in source} <= set(target):
            return {name: mapping[name] for name in source}
    raise UniEmoError(
        f"emotions ({', '.join(source)}) cannot be mapped to ({', '.join(target)}); "
        "known are eight to two, eight to six and six to two"
    )
