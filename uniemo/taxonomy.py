"""Emotion label spaces and the mappings between them, always by name.

Datasets sort their class folders differently and number two-class labels either way round, so an index never says which
emotion is meant; a name does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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

# No published standard: this convention is ours and is called so wherever its metrics are shown.
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

# Ours too, so that eight to two and eight to six to two agree: surprise can be of either kind elsewhere.
SIX_TO_TWO: dict[str, str] = {
    "joy": "positive",
    "surprise": "positive",
    "anger": "negative",
    "disgust": "negative",
    "fear": "negative",
    "sadness": "negative",
}

_MAPPINGS: tuple[tuple[str, dict[str, str]], ...] = (
    ("eight to two (EmoSet's positive four and negative four)", EIGHT_TO_TWO),
    ("eight to six (our convention)", EIGHT_TO_SIX),
    ("six to two (our convention)", SIX_TO_TWO),
)


@dataclass(frozen=True)
class LabelMap:
    """How the classes of a model become the classes of data; names decide, never positions.

    Attributes:
        source: the model's emotions, in its class order.
        target: the data's emotions, in theirs.
        names: ``{source name: target name}`` for every source name.
        title: which mapping it is, with the word "convention" where no published standard exists.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    names: dict[str, str]
    title: str

    @property
    def index(self) -> tuple[int, ...]:
        """Target class index of each source class."""
        return tuple(self.target.index(self.names[name]) for name in self.source)

    @property
    def trivial(self) -> bool:
        """Whether both sides have the same classes in the same order."""
        return self.source == self.target

    @property
    def same_classes(self) -> bool:
        """Whether both sides have the same classes, in whatever order."""
        return set(self.source) == set(self.target)

    def describe(self) -> str:
        """Return the mapping in one line, as for example ``amusement, contentment → joy; fear → fear``."""
        if self.same_classes:
            return f"emotions are matched {self.title}: {', '.join(self.target)}"
        parts = [
            f"{', '.join(name for name in self.source if self.names[name] == target)} → {target}"
            for target in self.target
            if target in self.names.values()
        ]
        unreached = [target for target in self.target if target not in self.names.values()]
        rest = f"; no class of the model stands for {', '.join(unreached)}" if unreached else ""
        return f"emotions are mapped {self.title}: {'; '.join(parts)}{rest}"


@lru_cache(maxsize=32)
def label_map(source: tuple[str, ...], target: tuple[str, ...]) -> LabelMap:
    """Return how a model that knows ``source`` answers in the classes ``target``.

    Raises:
        UniEmoError: no mapping between the two label spaces is known.
    """
    if set(source) <= set(target):
        return LabelMap(source, target, {name: name for name in source}, "by name")
    for title, mapping in _MAPPINGS:
        if set(source) <= set(mapping) and {mapping[name] for name in source} <= set(target):
            return LabelMap(source, target, {name: mapping[name] for name in source}, title)
    raise UniEmoError(
        f"emotions ({', '.join(source)}) cannot be mapped to ({', '.join(target)}); "
        "known are eight to two, eight to six and six to two: take other data or train on it"
    )
