"""What a callback may ask of a module: never its class, only what it can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from uniemo.data.emotions import LabelMap
from uniemo.vocabulary import Vocabulary


@runtime_checkable
class Classifies(Protocol):
    """Reads emotions off images."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the classes."""
        ...

    def classify(self, images: Tensor) -> Tensor:
        """Return (B, C) probabilities for CLIP-normalised images (B, 3, R, R)."""
        ...


@runtime_checkable
class Maps(Classifies, Protocol):
    """Answers in the classes of data that has others than its own."""

    def label_map(self) -> LabelMap:
        """Return how its classes become the data's; UniEmoError where no mapping is known."""
        ...

    def confusion(self, split: Literal["val", "test"]) -> Tensor | None:
        """Return (C, C) counts of the split evaluated last, rows are the data's labels; None before that."""
        ...


@runtime_checkable
class Attends(Protocol):
    """Shows where its queries look."""

    def attention(self, images: Tensor) -> dict[str, Tensor]:
        """Return maps (B, h, w) that sum to 1 per image, by the query set's name: "scene", "object"."""
        ...


@runtime_checkable
class Generates(Protocol):
    """Draws images that evoke an emotion."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the emotions."""
        ...

    def prepare_generation(self) -> None:
        """Bring what generation draws from (the emotion space) up to date with the weights."""
        ...

    def generate(
        self,
        emotion: int | Sequence[int],
        seeds: list[int],
        steps: int | None,
        guidance: float | None,
        space: Literal["bank", "gaussian"] | None,
        batch_size: int,
    ) -> Tensor:
        """Return one image per seed, for one emotion or one per seed: (n, 3, H, W) in [0, 1] on the CPU.

        None takes the module's own setting.
        """
        ...


@runtime_checkable
class TakesFeedback(Generates, Protocol):
    """Trains on images that it has drawn itself."""

    feedback: bool  # of no value in itself: a module that has it wants its own images
    init_from: str | None  # checkpoint that it starts from
    pretrained: bool  # whether that checkpoint can draw images


@runtime_checkable
class Completes(Protocol):
    """Has something to add to its checkpoints once training is over."""

    def complete_checkpoint(self, path: Path) -> None:
        """Rewrite a checkpoint with what is too costly to compute each time one is written."""
        ...


def names_for_clarity(data: Vocabulary, model: Vocabulary) -> Vocabulary:
    """Return the names with which generated images are scored: the data's, with the model's attributes for lack of any.

    Sem-C looks for scenes and objects; on data without such names those that the model was trained on will do.
    """
    if data.scenes or data.objects:
        return data
    return Vocabulary(data.emotions, model.scenes, model.objects)
