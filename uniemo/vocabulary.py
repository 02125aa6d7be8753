"""What a dataset says of images: names of emotions, scenes and objects, the scale of valence and arousal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uniemo.errors import UniEmoError


def attribute_text(name: str) -> str:
    """Return the words that CLIP's text encoder sees for a name as a dataset spells it (design: template ``"{}"``).

    Lower case, underscores as blanks, no blanks around it: "amusement_park", "Alarm clock".
    """
    return " ".join(name.replace("_", " ").split()).lower()


def check_scale(scale: Any) -> tuple[float, float]:  # noqa: ANN401 - may come from a file
    """Return the least and the greatest value of a scale of valence and arousal.

    Raises:
        UniEmoError: they are not two finite numbers in that order.
    """
    numbers = isinstance(scale, list | tuple) and all(isinstance(end, int | float) for end in scale)
    if not numbers or len(scale) != 2 or not -math.inf < scale[0] < scale[1] < math.inf:
        raise UniEmoError(
            f"a scale of valence and arousal must be its least and its greatest value; got {scale!r}: write 1 7, say"
        )
    return float(scale[0]), float(scale[1])


@dataclass(frozen=True)
class Vocabulary:
    """Emotion, scene and object names; the position in each tuple is the class index.

    Scenes and objects are separate name spaces: the same word may stand in both. Either may be empty for a dataset
    without attributes.

    Attributes:
        affect: least and greatest value of valence and arousal, as (1, 7); None for a dataset without them.
    """

    emotions: tuple[str, ...]
    scenes: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    affect: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the names: they are printed, and emotions name the folders of generated images. Check the scale."""
        for name in (*self.emotions, *self.scenes, *self.objects):
            folder = name not in self.emotions or not (name.startswith(".") or set(name) & set("/\\:"))
            if not name or not name.isprintable() or not folder:
                raise UniEmoError(f"names must be text that can be printed, emotions without / or \\; got {name!r}")
        if self.affect is not None:
            check_scale(self.affect)

    def emotion_index(self, name: str) -> int:
        """Return the class index of an emotion, whatever its letter case.

        Raises:
            UniEmoError: the name is not one of ``emotions``.
        """
        wanted = name.strip().lower()
        if wanted not in self.emotions:
            raise UniEmoError(f"emotion must be one of {', '.join(self.emotions)}; got {name!r}")
        return self.emotions.index(wanted)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, fit for a checkpoint or JSON; ``affect`` only where there is one."""
        names = {"emotions": list(self.emotions), "scenes": list(self.scenes), "objects": list(self.objects)}
        return names if self.affect is None else {**names, "affect": list(self.affect)}

    @classmethod
    def from_dict(cls, names: dict[str, Any]) -> Vocabulary:
        """Rebuild a vocabulary from :meth:`to_dict`."""
        affect = None if names.get("affect") is None else check_scale(names["affect"])
        return cls(tuple(names["emotions"]), tuple(names["scenes"]), tuple(names["objects"]), affect)


def output_row(
    vocabulary: Vocabulary, probabilities: Sequence[float], affect: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return what is written about an image that a model has seen, fit for JSON.

    Args:
        vocabulary: the model's, or the data's for mapped probabilities.
        probabilities: of each of its emotions.
        affect: valence and arousal on its scale; None where it has none.
    """
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    shares = dict(zip(vocabulary.emotions, (round(value, 6) for value in probabilities), strict=True))
    row: dict[str, Any] = {"emotion": vocabulary.emotions[best], "probabilities": shares}
    if affect is not None and vocabulary.affect is not None:
        valence, arousal = (round(value, 4) for value in affect)
        row["affect"] = {"valence": valence, "arousal": arousal, "scale": list(vocabulary.affect)}
    return row
