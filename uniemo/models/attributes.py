"""The attribute bank: text embeddings of scenes and objects, how each distributes over emotions, and α (eq. 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.errors import Temperature, UniEmoError, check_ranges
from uniemo.models.precision import products
from uniemo.text_files import read_json
from uniemo.vocabulary import Vocabulary, attribute_text

Kind = Literal["scene", "object"]
Tables = tuple[Tensor, Tensor]


@dataclass
class AttributeConfig:
    """Where P(emotion | attribute) comes from and how α is read from it.

    Attributes:
        source: ``images`` (mean probability of the Emo-A classifier over the training images that have the attribute),
            ``text`` (that classifier on the attribute's text embedding) or ``table`` (the file ``table``).
        table: JSON file for ``source: table``, see :func:`tables_from_file`.
        retrieval: ``hard`` takes the nearest attribute in CLIP text space, ``soft`` weighs all of them.
        temperature: of the soft retrieval's softmax over cosines.
    """

    source: Literal["images", "text", "table"] = "images"
    table: str | None = None
    retrieval: Literal["hard", "soft"] = "hard"
    temperature: Temperature = 0.07

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.attributes.")


class AttributeBank(nn.Module):
    """Frozen knowledge about S scenes and O objects, for C emotions in an E-dimensional CLIP space; all buffers.

    Attributes:
        scene_text: (S, E) text embeddings, L2-normalised.
        object_text: (O, E).
        scene_table: (S, C) P(emotion | scene); uniform until :meth:`set_tables`.
        object_table: (O, C).
    """

    scene_text: Tensor
    object_text: Tensor
    scene_table: Tensor
    object_table: Tensor

    def __init__(self, scene_text: Tensor, object_text: Tensor, num_emotions: int) -> None:
        super().__init__()
        self.num_emotions = num_emotions
        for kind, text in (("scene", scene_text), ("object", object_text)):
            self.register_buffer(f"{kind}_text", F.normalize(text.detach().float(), dim=-1))
            self.register_buffer(f"{kind}_table", torch.full((len(text), num_emotions), 1 / num_emotions))

    @classmethod
    def from_names(
        cls,
        scenes: Sequence[str],
        objects: Sequence[str],
        text_encode: Callable[[Sequence[str]], Tensor],
        num_emotions: int,
    ) -> AttributeBank:
        """Embed attribute names, underscores as spaces, with a function from N strings to (N, E)."""
        names = [attribute_text(name) for name in (*scenes, *objects)]
        embedded = text_encode(names or ["none"])[: len(names)]  # (0, E) without names, as a checkpoint's
        return cls(embedded[: len(scenes)], embedded[len(scenes) :], num_emotions)

    @classmethod
    def empty(cls, num_scenes: int, num_objects: int, embed_dim: int, num_emotions: int) -> AttributeBank:
        """Return a bank of the right shapes, to be filled from a checkpoint."""
        return cls(torch.zeros(num_scenes, embed_dim), torch.zeros(num_objects, embed_dim), num_emotions)

    def text(self, kind: Kind) -> Tensor:
        """Return the (V, E) normalised text embeddings of one kind."""
        return self.scene_text if kind == "scene" else self.object_text

    def table(self, kind: Kind) -> Tensor:
        """Return the (V, C) table of one kind."""
        return self.scene_table if kind == "scene" else self.object_table

    def set_tables(self, scene: Tensor, object: Tensor) -> None:
        """Set P(emotion | attribute): (S, C) and (O, C), numbers from zero.

        Raises:
            UniEmoError: another shape, or numbers that are negative or not finite.
        """
        for kind, old, new in (("scene", self.scene_table, scene), ("object", self.object_table, object)):
            if new.shape != old.shape:
                raise UniEmoError(f"{kind} table must be {tuple(old.shape)}; got {tuple(new.shape)}, build it anew")
            if not (torch.isfinite(new).all() and (new >= 0).all()):
                raise UniEmoError(f"{kind} table must hold finite numbers from zero; mend the table")
            old.copy_(new)

    def retrieve(
        self,
        kind: Kind,
        projected: Tensor,
        weights: Tensor,
        mode: Literal["hard", "soft"] = "hard",
        temperature: float = 0.07,
    ) -> Tensor:
        """Return the correlation coefficient α of each feature with an emotion (eq. 5), in float32 also under autocast.

        Args:
            kind: which attributes to look among.
            projected: (B, E) features in CLIP's text space, of any length.
            weights: (B,) emotion indices, or (B, C) weights over emotions.
            mode: ``hard`` is P(a*)[y] with a* the attribute of highest cosine, no gradient; ``soft`` is the mean over
                attributes, weighted by softmax(cosine / temperature), differentiable.
            temperature: of the soft mode.

        Returns:
            α (B,), within [0, 1] for tables of probabilities; all ones when there are no attributes of this kind.
        """
        text, table = self.text(kind), self.table(kind)
        if len(text) == 0:
            return projected.new_ones(len(projected))
        if weights.dim() == 1:
            weights = F.one_hot(weights, self.num_emotions)
        if mode == "hard":
            # the cosine's arg max over unit-length texts does not depend on the feature's length
            share = table[products(projected.detach(), text).argmax(dim=-1)]  # (B, C)
        else:
            cosine = products(F.normalize(projected.float(), dim=-1), text)  # (B, V)
            share = products((cosine / temperature).softmax(dim=-1), table.T)  # (B, C)
        return (share * weights.to(share.dtype)).sum(dim=-1)


def tables_from_images(probabilities: Tensor, scene: Tensor, objects: Tensor, num_scenes: int) -> Tables:
    """Average an emotion classifier's probabilities over the images that have an attribute (``source: images``).

    Args:
        probabilities: (N, C), rows sum to one.
        scene: (N,) scene index, -1 where the image has none.
        objects: (N, O) bool, which objects an image has.
        num_scenes: S.

    Returns:
        (S, C) and (O, C); an attribute that no image has gets the uniform distribution.
    """
    num_emotions = probabilities.shape[1]
    has_scene = F.one_hot(scene.clamp(min=0), max(num_scenes, 1)).bool() & (scene >= 0).unsqueeze(1)  # (N, S)

    def average(has: Tensor) -> Tensor:
        counts = has.sum(dim=0).unsqueeze(1)  # (V, 1)
        mean = has.to(probabilities.dtype).T @ probabilities / counts.clamp(min=1)
        return torch.where(counts > 0, mean, torch.full_like(mean, 1 / num_emotions))

    return average(has_scene[:, :num_scenes]), average(objects.bool())


def tables_from_text(bank: AttributeBank, classifier: Callable[[Tensor], Tensor]) -> Tables:
    """Classify (V, E) text embeddings of attributes (``source: text``): (S, C) and (O, C), rows sum to one."""
    with torch.no_grad():
        return classifier(bank.scene_text).softmax(dim=-1), classifier(bank.object_text).softmax(dim=-1)


def tables_from_file(path: str | Path, vocabulary: Vocabulary) -> Tables:
    """Read P(emotion | attribute) from JSON (``source: table``).

    The file maps attribute names to C numbers in the order of the vocabulary's emotions, one map for both kinds or
    ``{"scene": {...}, "object": {...}}``. Spelling of names is normalised. An attribute that the file leaves out gets
    the uniform distribution.

    Returns:
        (S, C) and (O, C).

    Raises:
        UniEmoError: no such file, no JSON object, a row of another length, or no name that fits.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UniEmoError(f"attributes.table must be a JSON file; {str(path)!r} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UniEmoError(f"attributes.table must map attribute names to numbers; {str(path)!r} holds no JSON object")
    kinds: tuple[Kind, Kind] = ("scene", "object")
    if not (set(content) <= set(kinds) and all(isinstance(value, dict) for value in content.values())):
        content = dict.fromkeys(kinds, content)
    rows = {kind: {attribute_text(name): row for name, row in content.get(kind, {}).items()} for kind in kinds}
    names = {"scene": vocabulary.scenes, "object": vocabulary.objects}
    if not any(attribute_text(name) in rows[kind] for kind in kinds for name in names[kind]):
        raise UniEmoError(f"attributes.table must name attributes of the dataset; {str(path)!r} names none of them")
    uniform = [1 / len(vocabulary.emotions)] * len(vocabulary.emotions)
    tables = []
    for kind in kinds:
        found = [rows[kind].get(attribute_text(name), uniform) for name in names[kind]]
        for name, row in zip(names[kind], found, strict=True):
            if not isinstance(row, list) or len(row) != len(uniform):
                raise UniEmoError(
                    f"attributes.table must give {len(uniform)} numbers for {name!r} in {str(path)!r}; got {row}"
                )
        tables.append(torch.tensor(found, dtype=torch.float32).reshape(-1, len(uniform)))
    return tables[0], tables[1]
