"""What callbacks ask of a module that generates.

Other abilities are single attributes: ``attention(images)`` returns maps (B, h, w) by query set, each summing to 1;
``complete_checkpoint(path)`` rewrites a checkpoint once training is over with what is too costly to compute each time
one is written; ``sampling(emotions, seeds, space)`` returns what results say about how features were sampled; a module
with ``feedback = True`` trains on its own images, with ``pretrained`` from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from uniemo.models.emotion_space import Sampler
from uniemo.vocabulary import Vocabulary


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
        space: Sampler | None,
        batch_size: int,
    ) -> Tensor:
        """Return one image per seed, for one emotion or one per seed: (n, 3, H, W) in [0, 1] on the CPU.

        None takes the module's own setting.
        """
        ...


def names_for_clarity(data: Vocabulary, model: Vocabulary) -> Vocabulary:
    """Return the names for Sem-C: the data's, with the model's attributes where the data has none."""
    if data.scenes or data.objects:
        return data
    return Vocabulary(data.emotions, model.scenes, model.objects)
