"""A fit up to the point where training would start, on every fold's data."""

from __future__ import annotations

from typing import Any

from uniemo.checkpoint import CheckpointInfo
from uniemo.cli.training import TrainingCLI
from uniemo.data.base import SPLITS


class Rehearsal(TrainingCLI):
    """Build model, data and trainer of fold 1, look at the data of all folds, train nothing and write nothing.

    Args:
        words: of ``uniemo fit``, as :func:`uniemo.cli.words.prepare` leaves them.
        checkpoint: what ``--ckpt`` says about itself, None without one.
        folds: how many.
    """

    def __init__(self, words: list[str], checkpoint: CheckpointInfo | None, folds: int) -> None:
        self.folds = folds
        super().__init__(words, checkpoint)

    def after_instantiate_classes(self) -> None:
        """Look for mistakes as fit does, then at each fold."""
        super().after_instantiate_classes()
        arguments: dict[str, Any] = self.config.fit.data.init_args.as_dict()
        for fold in range(1, self.folds + 1):
            type(self.datamodule)(**{**arguments, "fold": fold}).check(SPLITS)

    def _run_subcommand(self, subcommand: str) -> None:
        """Leave it at that."""
