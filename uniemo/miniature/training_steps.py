"""What the recipe's training loops share: resumable progress, an optimiser's step, the learning rate."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uniemo.cache import save_tensors
from uniemo.progress_bars import progress_bar


class Progress:
    """Iterate over the remaining steps with a progress bar, saving the state every two minutes.

    Args:
        name: shown before the bar.
        path: file of the resumable state.
        steps: number of steps in all.
        parts: objects with ``state_dict`` and ``load_state_dict`` that make up the state.
    """

    def __init__(self, name: str, path: Path, steps: int, parts: dict[str, Any]) -> None:
        self.path, self.steps, self.parts = path, steps, parts
        self.start = 0
        if path.is_file():
            state = torch.load(path, weights_only=True)
            self.start = state["step"]
            for key, part in parts.items():
                part.load_state_dict(state[key])
        self.bar = progress_bar(desc=name, unit="step", total=steps, initial=self.start, mininterval=5)
        self._means: dict[str, float] = {}

    def __iter__(self) -> Iterator[int]:
        """Yield step numbers from where the saved state ended."""
        saved = time.monotonic()
        for step in range(self.start, self.steps):
            yield step
            self.bar.update()
            if time.monotonic() - saved > 120:
                self._save(step + 1)
                saved = time.monotonic()
        self._save(self.steps)
        self.bar.close()

    def show(self, **losses: Tensor) -> None:
        """Show exponential means of named losses on the bar."""
        for key, value in losses.items():
            self._means[key] = 0.98 * self._means.get(key, value.item()) + 0.02 * value.item()
        self.bar.set_postfix({key: f"{value:.4f}" for key, value in self._means.items()}, refresh=False)

    def _save(self, step: int) -> None:
        state = {key: part.state_dict() for key, part in self.parts.items()}
        save_tensors(self.path, {"step": step, **state})


def optimise(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """Take a step with gradients clipped to norm 1."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def cosine_rate(step: int, steps: int, peak: float, warmup: int = 200) -> float:
    """Return the learning rate: linear warm-up over ``warmup`` steps, then half a cosine down to 1 % of ``peak``."""
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps))) * min(1.0, (step + 1) / warmup)
