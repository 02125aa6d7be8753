"""What the three modules share: building the model, optimiser, accuracy, checkpoints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from uniemo import __version__
from uniemo.checkpoint import (
    PREFIX,
    CheckpointInfo,
    check_backbones,
    check_stage,
    fingerprint,
    plain_config,
    read_checkpoint,
)
from uniemo.data.batch import EmotionBatch
from uniemo.data.emotions import LabelMap, label_map
from uniemo.errors import UniEmoError
from uniemo.models.attributes import Kind
from uniemo.models.ranks import averaged
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules.accuracy import Examination, sum_classes
from uniemo.modules.config import ModelConfig
from uniemo.modules.noise import mixed_seed
from uniemo.modules.optim import OptimizerConfig, freeze, model_parameters, parameter_groups, schedule
from uniemo.modules.terms import LossConfig
from uniemo.modules.transfer import Transfer, check_names, check_sizes, misfit, same_tower, transfer
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule


class UniEmoModule(L.LightningModule):
    """A stage of training around a :class:`uniemo.models.uniemo.UniEmoModel`.

    The model is built in ``setup``, when the data's vocabulary is known. Subclasses say which losses they sum.

    The module keeps the names that it was trained on. Data whose emotions are others can be evaluated: probabilities
    are summed into the data's classes by :func:`uniemo.data.emotions.label_map`. On data without scene or object names
    there is no L_S or no L_O.

    Args:
        config: the model's parts.
        optimizer: learning rates by parameter group; 0 freezes a group.
        loss: weights and forms of the losses.
        init_from: checkpoint to start from, of a stage in ``init_stages``.
        seed: of noise, dropout and what else is drawn in training.
    """

    stage: ClassVar[str]
    init_stages: ClassVar[tuple[str, ...]]
    config_text: str = ""  # the run's resolved configuration, set by the command line
    model: UniEmoModel  # from setup on

    def __init__(
        self, config: ModelConfig, optimizer: OptimizerConfig, loss: LossConfig, init_from: str | None, seed: int
    ) -> None:
        super().__init__()
        self.config = config
        self.optimizer = optimizer
        self.loss = loss
        self.init_from = init_from
        self.seed = seed
        self.clip_tuned = False  # whether the CLIP tower differs from its public weights and belongs in checkpoints
        self._vocabulary: Vocabulary | None = None
        self._data_names: Vocabulary | None = None
        self._examination: Examination | None = None
        self._total_steps = 1
        self._epoch_step = 0  # optimiser steps before the present epoch
        plain = config.plain() | {"optimizer": plain_config(optimizer), "loss": plain_config(loss)}
        self.save_hyperparameters(
            {**plain, "init_from": init_from, "seed": seed, "_instantiator": _INSTANTIATOR}, logger=False
        )
        self.register_state_dict_post_hook(_leave_out_frozen)

    # Building.

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
        if self.init_from is not None:
            _, info = read_checkpoint(self.init_from)
            check_stage(info, self.init_stages)

    def setup(self, stage: str) -> None:
        """Build the model unless that has happened (Lightning's hook).

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        data = self.trainer.datamodule
        if not hasattr(self, "model"):
            self.prepare(data, initialise=stage == "fit")
        self._data_names = data.vocabulary
        self._examination = None
        if stage == "fit":
            check_names(self.vocabulary, data.vocabulary)

    def prepare(self, data: EmotionDataModule, initialise: bool, vocabulary: Vocabulary | None = None) -> None:
        """Build the model for the data and load ``init_from``; mistakes in the configuration show here.

        Args:
            data: gives the vocabulary and the size of images.
            initialise: load ``init_from``, where it is set.
            vocabulary: names of a checkpoint whose weights will be loaded; None takes the data's.
        """
        self._data_names = data.vocabulary
        content, info = None, None
        if initialise and self.init_from is not None:
            content, info = read_checkpoint(self.init_from, self.init_stages)
        self.build(vocabulary or self._starting_names(data.vocabulary, info))
        check_sizes(self.model, data, self.config)
        if content is not None and info is not None:
            self._initialise(content["state_dict"], info)

    def build(self, vocabulary: Vocabulary) -> None:
        """Build the model, its first weights decided by ``seed`` alone, and freeze what does not learn."""
        self._vocabulary = vocabulary
        torch.manual_seed(mixed_seed(self.seed))
        config = self.config
        model = UniEmoModel.build(vocabulary, config.encoder, config.head, config.attributes, config.generation())
        self.model = model
        freeze(model_parameters(model), self.optimizer)
        for kind, projection in (("scene", model.scene_projection), ("object", model.object_projection)):
            if projection is not None and kind not in self.attribute_kinds:
                projection.requires_grad_(False)  # no loss would hold it in CLIP's text space
        self.clip_tuned = self.optimizer.lr_clip > 0

    def _starting_names(self, data: Vocabulary, info: CheckpointInfo | None) -> Vocabulary:
        """Return the names to train on: the data's, unless a subclass keeps some of the checkpoint ``init_from``."""
        return data

    def _initialise(self, state: dict[str, Tensor], info: CheckpointInfo) -> Transfer:
        """Load the weights of an earlier stage; what does not fit this data's names starts anew and is named."""
        check_backbones(info, self.config.backbones())
        names = {name.removeprefix(PREFIX): value for name, value in state.items()}
        own = self.model.trained_state_dict()
        fitted = transfer(names, own, info.vocabulary, self.vocabulary)
        try:
            self._load(fitted.state, shared_only=True)
        except UniEmoError as error:
            words = misfit(self.config, info, same_tower(names, own))
            if not words:
                raise
            raise UniEmoError(f"the model must have the sizes of init_from {info.path}: add {words}") from error
        if fitted.note:
            _say(f"init_from {info.path}: {fitted.note}")
        return fitted

    def _load(self, state: dict[str, Tensor], shared_only: bool = False) -> None:
        """Load a checkpoint's state dict; a tuned CLIP tower in it will be in later checkpoints too."""
        names = {name.removeprefix(PREFIX): value for name, value in state.items()}
        self.model.load_trained_state_dict(names, shared_only)
        self.clip_tuned |= any(name.startswith("encoder.visual.") for name in names)

    # Optimising.

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW by group; warm-up and one cosine, per step."""
        self._total_steps = self._expected_steps()
        optimizer = AdamW(parameter_groups(model_parameters(self.model), self.optimizer))

        def factor(step: int) -> float:
            return schedule(step, self._total_steps, self.optimizer.warmup, self.optimizer.final)

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
        """Sum the stage's losses, and log them.

        What is returned is this rank's part (:mod:`uniemo.models.ranks`): gradients averaged over ranks are those of
        one process with the images of all ranks. What is logged is the same on every rank, the loss over all of them.
        With ``trainer.accumulate_grad_batches`` that holds for each batch on its own: negatives and counts of masked
        losses are those of one batch of all ranks, and the step takes the mean of its batches' gradients.
        """
        total, terms = self.losses(batch)
        named = {f"loss/{name}": value for name, value in terms.items()} | {"loss/total": total}
        figures = averaged(torch.stack([value.detach() for value in named.values()]))
        self.log_dict(dict(zip(named, figures.unbind(), strict=True)), prog_bar=True, batch_size=len(batch))
        return total

    def on_validation_start(self) -> None:
        """Say how emotions are matched, where that is not plain."""
        if self.trainer.state.fn == "validate":
            self._announce()

    def on_test_start(self) -> None:
        """Say how emotions are matched, where that is not plain."""
        self._announce()

    def validation_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Count right answers."""
        self.examination.add("val", self(batch.images), batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/accuracy`` and ``val/balanced_accuracy``."""
        self._log_accuracy("val", by_class=self.trainer.state.fn == "validate")

    def test_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Count right answers."""
        self.examination.add("test", self(batch.images), batch)

    def on_test_epoch_end(self) -> None:
        """Log ``test/accuracy``, ``test/balanced_accuracy`` and the accuracy of each of the data's emotions."""
        self._log_accuracy("test", by_class=True)

    def predict_step(self, batch: EmotionBatch, batch_idx: int) -> dict[str, Any]:
        """Return names, sample ids, (B, C) probabilities and, where the data has other classes, ``mapped`` ones."""
        probabilities = self.classify(batch.images)
        result = {"names": batch.names, "sample_id": batch.sample_id, "probabilities": probabilities}
        try:
            labels = self.label_map()
        except UniEmoError:
            return result  # images can be predicted on whatever they are labelled with
        if not labels.same_classes:
            result["mapped"] = sum_classes(labels, probabilities)  # (B, T)
        return result

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion logits of CLIP-normalised images (B, 3, R, R)."""
        model = self.model
        return model.logits(model.features(images))

    def confusion(self, split: Literal["val", "test"]) -> Tensor | None:
        """Return (C, C) counts of the split evaluated last, rows are the data's labels; None before that."""
        return self.examination.confusion.get(split)

    @property
    def examination(self) -> Examination:
        """The answers so far, in the data's classes."""
        if self._examination is None:
            self._examination = Examination(self.label_map())
        return self._examination

    def _log_accuracy(self, split: str, by_class: bool) -> None:
        """Log the split's figures."""
        for name, value in self.examination.figures(split, by_class).items():
            self.log(f"{split}/{name}", value, prog_bar=name == "accuracy")

    def _announce(self) -> None:
        """Print and log how the model's emotions become the data's."""
        labels = self.label_map()
        if labels.trivial:
            return
        _say(labels.describe())
        for logger in self.loggers:
            add_text = getattr(logger.experiment, "add_text", None)
            if add_text is not None:
                add_text("label_map", labels.describe())

    # What callbacks ask for (callbacks/protocol.py).

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return (B, C) probabilities of CLIP-normalised images (B, 3, R, R)."""
        return self.model.classify(images)

    @torch.no_grad()
    def attention(self, images: Tensor) -> dict[str, Tensor]:
        """Return maps (B, h, w) of the query sets, mean over queries, each summing to 1."""
        features = self.model.features(images, attention=True)
        maps = {"scene": features.scene_attention, "object": features.object_attention}
        height, width = self.model.encoder.grid
        return {
            name: weights.float().mean(dim=1).unflatten(1, (height, width))  # (B, h, w)
            for name, weights in maps.items()
            if weights is not None
        }

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen backbones out and add what the file must say about itself."""
        trained = self.model.trained_state_dict(self.clip_tuned)
        checkpoint["state_dict"] = {f"{PREFIX}{name}": value for name, value in trained.items()}
        checkpoint["uniemo"] = {
            "version": __version__,
            "stage": self.stage,
            "vocabulary": self.vocabulary.to_dict(),
            "model": self.config.plain(),
            "backbones": {
                kind: {"name": name, "hash": fingerprint(name)} for kind, name in self.config.backbones().items()
            },
            "config": self.config_text,
            "epoch_step": self._epoch_step,
        }

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
        self._epoch_step = about.get("epoch_step", 0)
        vocabulary = Vocabulary.from_dict(about["vocabulary"])
        if self._data_names is not None and self.trainer.state.fn == "fit":
            check_names(vocabulary, self._data_names)
        if not hasattr(self, "model") or vocabulary != self.vocabulary:
            self.build(vocabulary)  # the module goes on with the names it was trained on, whatever the data's are
            self._examination = None

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        """Load by the model's own rules: frozen backbones are not in ``state_dict``, everything else must fit.

        Args:
            state_dict: of a checkpoint.
            strict: without effect, the rules are strict about what belongs there.
            assign: without effect.
        """
        self._load(dict(state_dict))
        return torch.nn.modules.module._IncompatibleKeys([], [])


_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # rebuilds configuration dataclasses in load_from_checkpoint


def _leave_out_frozen(module: UniEmoModule, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Leave frozen backbones out of a module's state, which forked processes hand back whole (gigabytes)."""
    kept = {f"{prefix}{PREFIX}{name}" for name in module.model.trained_state_dict(module.clip_tuned)}
    for name in state.keys() - kept:
        del state[name]


@rank_zero_only
def _say(text: str) -> None:
    """Print once, whatever the number of ranks."""
    print(text, flush=True)
