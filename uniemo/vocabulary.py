"""Names that a dataset uses: emotions, scenes and objects."""

from __future__ import annotations

from dataclasses import dataclass

from uniemo.errors import UniEmoError


def attribute_text(name: str) -> str:
    """Return the words that CLIP's text encoder sees for an attribute name.

    Args:
        name: an attribute as a dataset spells it, for example ``"amusement_park"`` or ``"Alarm clock"``.

    Returns:
        The name in lower case, underscores as spaces, without surrounding white space (design: template ``"{}"``).
    """
    return " ".join(name.replace("_", " ").split()).lower()


@dataclass(frozen=True)
class Vocabulary:
    """Emotion, scene and object names; the position in each tuple is the class index.

    Scenes and objects are separate name spaces: the same word may stand in both. Either may be empty for a dataset
    without attributes.
    """

    emotions: tuple[str, ...]
    scenes: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the names: they are printed, and emotions name the folders of generated images."""
        for name in (*self.emotions, *self.scenes, *self.objects):
            folder = name not in self.emotions or not (name.startswith(".") or set(name) & set("/\\:"))
            if not name or not name.isprintable() or not folder:
                raise UniEmoError(f"names must be text that can be printed, emotions without / or \\; got {name!r}")

    def emotion_index(self, name: str) -> int:
        """Return the class index of an emotion, whatever its letter case.

        Raises:
            UniEmoError: the name is not one of ``emotions``.
        """
        wanted = name.strip().lower()
        if wanted not in self.emotions:
            raise UniEmoError(f"emotion must be one of {', '.join(self.emotions)}; got {name!r}")
        return self.emotions.index(wanted)

    def to_dict(self) -> dict[str, list[str]]:
        """Return plain lists, fit for a checkpoint or JSON."""
        return {"emotions": list(self.emotions), "scenes": list(self.scenes), "objects": list(self.objects)}

    @classmethod
    def from_dict(cls, names: dict[str, list[str]]) -> Vocabulary:
        """Rebuild a vocabulary from :meth:`to_dict`."""
        return cls(tuple(names["emotions"]), tuple(names["scenes"]), tuple(names["objects"]))
