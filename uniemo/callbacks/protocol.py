"""What callbacks ask of a module: what it can do, never its class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from uniemo.vocabulary import Vocabulary


@runtime_checkable
class Attends(Protocol):
    """Has query sets with attention maps."""

    def attention(self, images: Tensor) -> dict[str, Tensor]:
        """Return maps (B, h, w) that sum to 1 per image, by the query set's name: "scene", "object"."""
        ...


@runtime_checkable
class Generates(Protocol):
    """Generates images that evoke an emotion."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the emotions."""
        ...

    def prepare_generation(self) -> None:
        """Bring what generation samples from (the emotion space) up to date with the weights."""
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
    """Trains on images that it has generated itself."""

    feedback: bool  # a module that has the attribute wants its own images
    init_from: str | None  # checkpoint that it starts from
    pretrained: bool  # whether that checkpoint can generate images


@runtime_checkable
class Completes(Protocol):
    """Has something to add to its checkpoints once training is over."""

    def complete_checkpoint(self, path: Path) -> None:
        """Rewrite a checkpoint with what is too costly to compute each time one is written."""
        ...


def names_for_clarity(data: Vocabulary, model: Vocabulary) -> Vocabulary:
    """Return the names for Sem-C: the data's, with the model's attributes where the data has none."""
    if data.scenes or data.objects:
        return data
    return Vocabulary(data.emotions, model.scenes, model.objects)
