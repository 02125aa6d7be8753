"""Training that has diverged stops at the first loss that is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor

from uniemo.errors import UniEmoError


class LossCheck:
    """Look at each batch's losses between its backward pass and the optimiser's step.

    On a GPU the copy to the host begins when the losses are computed. By the time it is waited for, the backward pass,
    twice as long, is queued behind them: the GPU does not run dry, and no step is taken with a loss of NaN.
    """

    def __init__(self) -> None:
        self._names: Sequence[str] = ()
        self._values = torch.zeros(0)
        self._copied: torch.cuda.Event | None = None

    def begin(self, names: Sequence[str], values: Tensor) -> None:
        """Take the losses of a batch, (N,) with the same values on every rank, which then stop together."""
        self._names, self._values = names, values.to("cpu", non_blocking=values.is_cuda)
        self._copied = torch.cuda.Event() if values.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def end(self, trainer: L.Trainer) -> None:
        """Raise UniEmoError unless they are finite."""
        if self._copied is not None:
            self._copied.synchronize()
        values = dict(zip(self._names, self._values.tolist(), strict=True))
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        if not bad:
            return
        terms = [name for name in bad if name != "total"] or list(bad)  # the sum is as bad as its terms
        groups = trainer.optimizers[0].param_groups
        rates = ", ".join(f"{group.get('name', '')} {group['lr']:.3g}".strip() for group in groups)
        more = "" if trainer.precision == "32-true" else ", or take --trainer.precision 32-true or bf16-mixed"
        raise UniEmoError(
            f"training losses must be finite; at step {trainer.global_step} {', '.join(terms)}: {bad[terms[0]]} "
            f"(learning rates: {rates}): lower the learning rate{more}"
        )
