"""What every trained method shares, UniEmo's stages and the baselines: names, optimiser, steps, checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from uniemo import __version__
from uniemo.checkpoint import PREFIX, fingerprint
from uniemo.data.batch import EmotionBatch
from uniemo.data.emotions import LabelMap, label_map
from uniemo.distributed import average
from uniemo.errors import UniEmoError
from uniemo.models.attributes import Kind
from uniemo.models.state import check_state
from uniemo.modules.noise import mixed_seed
from uniemo.modules.optim import Optimizes, schedule
from uniemo.modules.transfer import check_names
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule


class EmotionModule(L.LightningModule, ABC):
    """A method that ``uniemo fit`` trains and whose checkpoints ``uniemo test`` opens.

    The model is built in ``setup``, when the data's vocabulary is known; it keeps the names that it was trained on. A
    subclass says how it is built (:meth:`make_model`), which frozen networks it holds (:meth:`backbones`), which
    parameters learn (:meth:`parameter_groups`) and which losses are summed (:meth:`losses`). One that tells emotions
    derives from :class:`uniemo.modules.examined.ExaminedModule`, which adds accuracy.

    Args:
        hyperparameters: the constructor's other arguments as plain values, which checkpoints hold.
        optimizer: AdamW's or another's settings, with its schedule.
        seed: of first weights, noise, dropout and what else is drawn in training.
        init_from: checkpoint to start from, None for methods that take none.
    """

    stage: ClassVar[str]  # what checkpoints say they are
    method: ClassVar[str] = ""  # of a baseline: which; its default run folder is called so
    trains: ClassVar[bool] = True  # False: fit writes the checkpoint and takes no step
    config_text: str = ""  # the run's resolved configuration, set by the command line
    model: nn.Module  # from setup on

    def __init__(
        self, hyperparameters: dict[str, Any], optimizer: Optimizes | None, seed: int, init_from: str | None = None
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.init_from = init_from
        self.seed = seed
        self._vocabulary: Vocabulary | None = None
        self._data_names: Vocabulary | None = None
        self._total_steps = 1
        self._epoch_step = 0  # optimiser steps before the present epoch
        self.save_hyperparameters({**hyperparameters, "seed": seed, "_instantiator": _INSTANTIATOR}, logger=False)
        self.register_state_dict_post_hook(_leave_out_frozen)

    # Building.

    @abstractmethod
    def make_model(self, vocabulary: Vocabulary) -> nn.Module:
        """Return the model for these names, what does not learn frozen; the global random state is seeded."""

    @abstractmethod
    def backbones(self) -> dict[str, str]:
        """Return the names of the frozen networks by kind ("clip", "diffusion")."""

    def description(self) -> dict[str, Any]:
        """Return plain values that say how the model is built; checkpoints hold them as ``model``."""
        other = ("optimizer", "init_from", "seed", "_instantiator")
        return {name: value for name, value in self.hparams.items() if name not in other}

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of emotions, scenes and objects that the model knows."""
        if self._vocabulary is None:
            raise UniEmoError("the vocabulary is known after setup; call trainer.fit, validate, test or predict first")
        return self._vocabulary

    @property
    def attribute_kinds(self) -> tuple[Kind, ...]:
        """Which kinds of attributes the data has; the others have no contrastive loss."""
        names = self._data_names or self.vocabulary
        kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (("scene", names.scenes), ("object", names.objects))
        return tuple(kind for kind, known in kinds if known)

    def label_map(self) -> LabelMap:
        """Return how the model's emotions become those of the data.

        Raises:
            UniEmoError: no mapping between the two label spaces is known.
        """
        return label_map(self.vocabulary.emotions, (self._data_names or self.vocabulary).emotions)

    def check(self) -> None:
        """Raise UniEmoError for what can be found wrong before any work."""

    def check_data(self, data: EmotionDataModule) -> None:
        """Raise UniEmoError unless the data fits the model, which is built: its images have the right size, say."""

    def setup(self, stage: str) -> None:
        """Build the model unless that has happened (Lightning's hook).

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        data = self.trainer.datamodule
        if not hasattr(self, "model"):
            self.prepare(data, initialise=stage == "fit")
        self._data_names = data.vocabulary
        self.forget_answers()
        if stage == "fit":
            check_names(self.vocabulary, data.vocabulary)

    def prepare(self, data: EmotionDataModule, initialise: bool, vocabulary: Vocabulary | None = None) -> None:
        """Build the model for the data; mistakes in the configuration show here.

        Args:
            data: gives the vocabulary and the size of images.
            initialise: whether training starts: load ``init_from``, where a method has it.
            vocabulary: names of a checkpoint whose weights will be loaded; None takes the data's.
        """
        self._data_names = data.vocabulary
        self.build(vocabulary or data.vocabulary)
        self.check_data(data)

    def build(self, vocabulary: Vocabulary) -> None:
        """Build the model, its first weights decided by ``seed`` alone."""
        self._vocabulary = vocabulary
        torch.manual_seed(mixed_seed(self.seed))
        self.model = self.make_model(vocabulary)

    def forget_answers(self) -> None:
        """Drop what was counted in another label space; of modules that count answers."""

    def on_fit_start(self) -> None:
        """Write the checkpoint of a method that has nothing to train."""
        if not self.trains and not self.trainer.fast_dev_run:
            path = Path(self.trainer.default_root_dir) / "best.ckpt"
            self.trainer.save_checkpoint(path, weights_only=True)
            say(f"nothing to train; wrote {path}")

    # Optimising.

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups; by default one of all parameters that learn, with the optimiser's own rate."""
        return [{"params": [parameter for parameter in self.model.parameters() if parameter.requires_grad]}]

    def configure_optimizers(self) -> dict[str, Any] | None:
        """The optimiser by group; warm-up and one cosine, per step."""
        settings = self.optimizer
        if settings is None or not self.trains:
            return None
        self._total_steps = self._expected_steps()
        optimizer = settings.build(self.parameter_groups())

        def factor(step: int) -> float:
            return schedule(step, self._total_steps, settings.warmup, settings.final)

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def _expected_steps(self) -> int:
        """Return how many steps the run will take, before Lightning has made its loaders."""
        trainer = self.trainer
        if trainer.max_steps > 0:
            return trainer.max_steps
        batches = len(trainer.datamodule.train_dataloader())
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return max(1, -(-batches // trainer.accumulate_grad_batches) * max(1, trainer.max_epochs or 1))

    def on_train_start(self) -> None:
        """Count the steps to come also where a run goes on within an epoch, whose start it does not meet."""
        self._count_steps()

    def on_train_epoch_start(self) -> None:
        """Count the steps to come: the training set may have grown by generated images."""
        self._epoch_step = self.trainer.global_step
        self._count_steps()

    def _count_steps(self) -> None:
        """Find out how many steps the run will have taken at its end, from the length of the present epoch."""
        trainer = self.trainer
        if trainer.max_steps <= 0 and trainer.max_epochs:
            per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
            self._total_steps = self._epoch_step + per_epoch * (trainer.max_epochs - trainer.current_epoch)

    # Steps.

    @abstractmethod
    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and its named terms."""

    def on_train_batch_start(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Seed dropout by step and rank: a resumed run equals an unbroken one, ranks drop units of their own."""
        torch.manual_seed(mixed_seed(self.seed, self.trainer.fit_loop.total_batch_idx, self.global_rank))

    def training_step(self, batch: EmotionBatch, batch_idx: int) -> Tensor:
        """Sum the method's losses, and log them.

        What is returned is this rank's part (:mod:`uniemo.distributed`): gradients averaged over ranks are those of
        one process with the images of all ranks. What is logged is the same on every rank, the loss over all of them.
        With ``trainer.accumulate_grad_batches`` that holds for each batch on its own: negatives and counts of masked
        losses are those of one batch of all ranks, and the step takes the mean of its batches' gradients.
        """
        total, terms = self.losses(batch)
        named = {f"loss/{name}": value for name, value in terms.items()} | {"loss/total": total}
        figures = average(torch.stack([value.detach() for value in named.values()]))
        self.log_dict(dict(zip(named, figures.unbind(), strict=True)), prog_bar=True, batch_size=len(batch))
        return total

    # Checkpoints.

    def trained_state(self) -> dict[str, Tensor]:
        """Return what checkpoints hold of the model, by default the parameters that learn."""
        return {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load what :meth:`trained_state` returned.

        Raises:
            UniEmoError: it belongs to another configuration.
        """
        check_state(self.trained_state(), state)
        self.model.load_state_dict(state, strict=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen backbones out and add what the file must say about itself."""
        checkpoint["state_dict"] = {f"{PREFIX}{name}": value for name, value in self.trained_state().items()}
        checkpoint["uniemo"] = {
            "version": __version__,
            "stage": self.stage,
            "vocabulary": self.vocabulary.to_dict(),
            "model": self.description(),
            "backbones": {kind: {"name": name, "hash": fingerprint(name)} for kind, name in self.backbones().items()},
            "config": self.config_text,
            "epoch_step": self._epoch_step,
        }
        if self.method:
            checkpoint["uniemo"]["method"] = self.method

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compare the file with this module; its weights come in :meth:`load_state_dict`."""
        about = checkpoint.get("uniemo")
        if about is None:
            raise UniEmoError(
                "checkpoint must be written by uniemo fit; this one is not: give a best.ckpt or last.ckpt"
            )
        if about["stage"] != self.stage:
            raise UniEmoError(
                f"checkpoint must be of stage {self.stage}; it is of stage {about['stage']}: give another"
            )
        if about.get("method", "") != self.method:
            raise UniEmoError(
                f"checkpoint must be of the method {self.method}; it is of {about['method']}: give another"
            )
        self._epoch_step = about.get("epoch_step", 0)
        vocabulary = Vocabulary.from_dict(about["vocabulary"])
        if self._data_names is not None and self.trainer.state.fn == "fit":
            check_names(vocabulary, self._data_names)
        if not hasattr(self, "model") or vocabulary != self.vocabulary:
            self.build(vocabulary)  # the module goes on with the names it was trained on, whatever the data's are
            self.forget_answers()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        """Load by the method's own rules: frozen backbones are not in ``state_dict``, everything else must fit.

        Args:
            state_dict: of a checkpoint.
            strict: without effect, the rules are strict about what belongs there.
            assign: without effect.
        """
        self.load_trained_state({name.removeprefix(PREFIX): value for name, value in state_dict.items()})
        return torch.nn.modules.module._IncompatibleKeys([], [])


_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # rebuilds configuration dataclasses in load_from_checkpoint


def _leave_out_frozen(module: EmotionModule, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Leave frozen backbones out of a module's state, which forked processes hand back whole (gigabytes)."""
    kept = {f"{prefix}{PREFIX}{name}" for name in module.trained_state()}
    for name in state.keys() - kept:
        del state[name]


@rank_zero_only
def say(text: str) -> None:
    """Print once, whatever the number of ranks."""
    print(text, flush=True)
