"""Optimisers, parameter groups and the learning rate schedule (design section 3, "stage 1 optimiser")."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from uniemo.errors import NonNegative, Positive, Share, UniEmoError, check_ranges
from uniemo.models.uniemo import UniEmoModel


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW's settings by parameter group; a learning rate of 0 freezes the group.

    Attributes:
        lr_clip: the CLIP tower.
        lr_query: expert queries, interactive blocks and the projections of the contrastive losses.
        lr_head: emotion head, and that of valence and arousal.
        lr_fusion: condition fusion and the condition loss's own parameters.
        weight_decay_clip: weight decay of the CLIP tower.
        weight_decay_query: weight decay of queries, interactive blocks and projections.
        weight_decay_head: weight decay of the head's matrices; its vectors have none.
        weight_decay_fusion: weight decay of the fusion.
        warmup: linear warm-up, a share of all steps below 1, else a number of steps.
        final: learning rate at the end of the cosine, as a share of the peak.
    """

    lr_clip: NonNegative = 8e-6  # released code, as are the next three
    lr_query: NonNegative = 5e-4
    lr_head: NonNegative = 1e-4
    lr_fusion: NonNegative = 1e-3
    weight_decay_clip: NonNegative = 1e-3
    weight_decay_query: NonNegative = 1e-3
    weight_decay_head: NonNegative = 1e-2
    weight_decay_fusion: NonNegative = 1e-3
    warmup: NonNegative = 0.05
    final: Share = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.optimizer.")

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Return AdamW; the groups of :func:`parameter_groups` bring rates and decays."""
        return AdamW(groups)


@dataclass(frozen=True)
class RateConfig:
    """An optimiser with one learning rate, for methods that train one thing.

    Attributes:
        lr: learning rate.
        weight_decay: weight decay.
        algorithm: ``adamw``, or ``sgd`` with momentum 0.9.
        warmup: linear warm-up, a share of all steps below 1, else a number of steps.
        final: learning rate at the end of the cosine, as a share of the peak.
    """

    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    algorithm: Literal["adamw", "sgd"] = "adamw"
    warmup: NonNegative = 0.05
    final: Share = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.optimizer.")

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Return the optimiser; groups with a rate or decay of their own keep it."""
        if self.algorithm == "sgd":
            return SGD(groups, lr=self.lr, weight_decay=self.weight_decay, momentum=0.9)
        return AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)


class Schedule:
    """The learning rate's factor over a run whose length may change from epoch to epoch.

    Args:
        settings: gives ``warmup`` and ``final``; None for a method without training.

    Attributes:
        epoch_step: optimiser steps before the current epoch.
    """

    def __init__(self, settings: OptimizerConfig | RateConfig | None) -> None:
        self.settings = settings
        self.total = 1
        self.epoch_step = 0

    def factor(self, step: int) -> float:
        """Return the factor at a step; settings are there where an optimiser is."""
        return schedule(step, self.total, self.settings.warmup, self.settings.final)  # type: ignore[union-attr]

    def expect(self, trainer: L.Trainer) -> None:
        """Estimate the steps of the run before Lightning has made its loaders."""
        if trainer.max_steps > 0:
            self.total = trainer.max_steps
            return
        batches, limit = len(trainer.datamodule.train_dataloader()), trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        self.total = max(1, _steps(trainer, batches) * max(1, trainer.max_epochs or 1))

    def count(self, trainer: L.Trainer) -> None:
        """Set how many steps the run will have taken at its end, from the length of the current epoch."""
        if trainer.max_steps <= 0 and trainer.max_epochs:
            epochs = trainer.max_epochs - trainer.current_epoch
            self.total = self.epoch_step + epochs * _steps(trainer, int(trainer.num_training_batches))


def _steps(trainer: L.Trainer, batches: int) -> int:
    """Return the optimiser steps of an epoch."""
    return -(-batches // trainer.accumulate_grad_batches)


def schedule(step: int, total: int, warmup: float, final: float = 0.0) -> float:
    """Return the factor on the learning rate after ``step`` of ``total`` steps: a linear warm-up, then one cosine.

    ``warmup`` is a share of ``total`` below 1, else a number of steps; ``final`` is the factor at the end.
    """
    rise = warmup if warmup >= 1 else warmup * total
    if step < rise:
        return (step + 1) / (rise + 1)
    progress = min(1.0, (step - rise) / max(1.0, total - rise))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def model_parameters(model: UniEmoModel) -> dict[str, list[nn.Parameter]]:
    """Return the model's own parameters by optimiser group; frozen backbones are in none."""

    def of(*parts: nn.Module | None) -> list[nn.Parameter]:
        return [parameter for part in parts if part is not None for parameter in part.parameters()]

    adapters = [parameter for parameter in of(model.diffusion) if parameter.requires_grad]
    return {
        "clip": list(model.encoder.clip_parameters()),
        "query": [*model.encoder.query_parameters(), *of(model.scene_projection, model.object_projection)],
        "head": of(model.head, model.affect_head),
        "fusion": [*of(model.fusion, model.condition_loss), *adapters],
    }


def freeze(parameters: Mapping[str, Iterable[nn.Parameter]], config: OptimizerConfig) -> None:
    """Set ``requires_grad`` of every parameter by whether its group has a learning rate above 0."""
    for group, members in parameters.items():
        for parameter in members:
            parameter.requires_grad_(getattr(config, f"lr_{group}") > 0)


def parameter_groups(parameters: Mapping[str, Iterable[nn.Parameter]], config: OptimizerConfig) -> list[dict[str, Any]]:
    """Return AdamW's groups of the parameters that learn; the head's vectors are a group without weight decay.

    Raises:
        UniEmoError: nothing learns.
    """
    groups: list[dict[str, Any]] = []
    for name, members in parameters.items():
        rate, decay = getattr(config, f"lr_{name}"), getattr(config, f"weight_decay_{name}")
        learning = [parameter for parameter in members if parameter.requires_grad]
        vectors = [parameter for parameter in learning if name == "head" and parameter.ndim < 2]
        others = [parameter for parameter in learning if not (name == "head" and parameter.ndim < 2)]
        if others:
            groups.append({"name": name, "params": others, "lr": rate, "weight_decay": decay})
        if vectors:
            groups.append({"name": f"{name}_vectors", "params": vectors, "lr": rate, "weight_decay": 0.0})
    if not groups:
        raise UniEmoError("at least one learning rate of model.optimizer must be above 0; all are 0")
    return groups
