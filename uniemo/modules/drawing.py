"""What modules that draw images share: drawing for callbacks, without traces in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor


class DrawingModule:
    """A part of a LightningModule whose ``model`` draws images (:class:`uniemo.callbacks.protocol.Generates`)."""

    model: Any  # a torch module with the ``generate`` of uniemo.models.uniemo.UniEmoModel

    def generate(
        self,
        emotion: int | Sequence[int],
        seeds: list[int],
        steps: int | None = None,
        guidance: float | None = None,
        space: Literal["bank", "gaussian"] | None = None,
        batch_size: int = 16,
    ) -> Tensor:
        """Draw one image per seed, for one emotion or one per seed: (n, 3, H, W) in [0, 1] on the CPU.

        None takes the configuration's choice.
        """
        weights = [{one: 1.0} for one in ([emotion] * len(seeds) if isinstance(emotion, int) else emotion)]
        with self._evaluating():
            images: Tensor = self.model.generate(
                weights, seeds, steps=steps, guidance=guidance, kind=space, batch_size=batch_size
            )
        return images

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Switch to eval mode without gradient for a while, and leave the global random state as it was."""
        was_training = self.model.training
        self.model.eval()
        try:
            # not inference mode, in which Lightning validates: tensors made there could not be trained with later
            with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng():
                yield
        finally:
            self.model.train(was_training)
