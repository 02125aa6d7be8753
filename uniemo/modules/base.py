"""The LightningModule of every trained method: UniEmo's stages and the baselines."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from uniemo import __version__
from uniemo.checkpoint import DIVERGED, PREFIX, CheckpointInfo, fingerprint, read_checkpoint
from uniemo.data.batch import EmotionBatch
from uniemo.distributed import average
from uniemo.errors import Seed, UniEmoError, check_ranges
from uniemo.models.affect_head import to_scale, to_shares
from uniemo.models.attributes import Kind
from uniemo.models.state import LOWER_RATE, TO_WRITE, check_finite, check_scores, check_state
from uniemo.modules.accuracy import AccuracyMetrics, print_label_map, print_once, sum_classes
from uniemo.modules.affect_metrics import SplitAffect
from uniemo.modules.divergence import LossCheck
from uniemo.modules.optim import OptimizerConfig, RateConfig, Schedule
from uniemo.modules.random import mixed_seed
from uniemo.modules.transfer import check_names, check_sizes
from uniemo.plain_configs import plain_config
from uniemo.taxonomy import LabelMap, label_map
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.datamodule import EmotionDataModule

_RUN_SETTINGS = ("optimizer", "loss", "init_from", "seed", "space_images", "_instantiator")  # say nothing of the model
_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # rebuilds configuration dataclasses in load_from_checkpoint


class EmotionModule(L.LightningModule, ABC):
    """A method that ``uniemo fit`` trains and whose checkpoints ``uniemo test`` opens.

    The model is built in ``setup``, when the data's vocabulary is known, and keeps the names that it was trained on. A
    subclass builds it (:meth:`make_model`) and returns the training losses (:meth:`losses`). Validation and test log
    the accuracy of :meth:`forward` in the classes of the data, which may be others than the model's.

    Args:
        hyperparameters: the constructor's other arguments; checkpoints hold them as plain values.
        optimizer: the optimiser's settings, with its schedule; None for a method without training.
        seed: of first weights, noise, dropout and every other random choice in training.
    """

    stage: ClassVar[str]  # as checkpoints say it
    method: ClassVar[str] = ""  # name of a baseline; its default run folder is called so
    monitors: ClassVar[tuple[str, ...]] = ("val/accuracy", "val/balanced_accuracy")  # logged after each validation
    trains: ClassVar[bool] = True  # False: fit writes the checkpoint and takes no step
    init_stages: ClassVar[tuple[str, ...]] = ()  # whose checkpoints ``init_from`` may name
    config_text: str = ""  # the run's resolved configuration, set by the command line
    trust: bool = False  # whether to run code that lies beside weights; --trust sets it, no file can
    model: nn.Module  # from setup on

    def __init__(
        self, hyperparameters: Mapping[str, Any], optimizer: OptimizerConfig | RateConfig | None, seed: Seed
    ) -> None:
        check_ranges(type(self), {**hyperparameters, "seed": seed}, "model.")
        super().__init__()
        self.optimizer = optimizer
        self.seed = seed
        self.init_from: str | None = hyperparameters.get("init_from")
        self._vocabulary: Vocabulary | None = None
        self._data_vocabulary: Vocabulary | None = None
        self._accuracy: AccuracyMetrics | None = None
        self._affect: dict[str, SplitAffect] = {}  # by split, of data with valence and arousal
        self.schedule = Schedule(optimizer)
        self._loss_check = LossCheck()
        trained = {} if optimizer is None else {"optimizer": optimizer}
        values = {name: _plain(value) for name, value in {**hyperparameters, **trained, "seed": seed}.items()}
        self.save_hyperparameters({**values, "_instantiator": _INSTANTIATOR}, logger=False)
        self.register_state_dict_post_hook(_remove_frozen)

    # Building.

    @abstractmethod
    def make_model(self, vocabulary: Vocabulary) -> nn.Module:
        """Return the model for these names, with what does not learn frozen; the global random state is seeded."""

    def backbones(self) -> dict[str, str]:
        """Return the names of the frozen networks by kind ("clip", "diffusion")."""
        parts = {"clip": ("encoder", "clip"), "diffusion": ("diffusion", "path")}
        return {kind: self.hparams[part][key] for kind, (part, key) in parts.items() if part in self.hparams}

    def input_sizes(self) -> dict[str, int]:
        """Return the image size of each frozen network in pixels, by kind; known once the model is built."""
        return {}

    def description(self) -> dict[str, Any]:
        """Return the arguments that decide how the model is built; checkpoints hold them as ``model``."""
        return {name: value for name, value in self.hparams.items() if name not in _RUN_SETTINGS}

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of emotions, scenes and objects that the model knows."""
        if self._vocabulary is None:
            raise ValueError("the vocabulary is known after setup; call trainer.fit, validate, test or predict first")
        return self._vocabulary

    @property
    def data_vocabulary(self) -> Vocabulary:
        """Names of the data; the model's own before there is any."""
        return self._data_vocabulary or self.vocabulary

    @property
    def attribute_kinds(self) -> tuple[Kind, ...]:
        """Which kinds of attributes the data has; the others have no contrastive loss."""
        names = self.data_vocabulary
        kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (("scene", names.scenes), ("object", names.objects))
        return tuple(kind for kind, known in kinds if known)

    def label_map(self) -> LabelMap:
        """Return how the model's emotions become those of the data.

        Raises:
            UniEmoError: no mapping between the two label spaces is known.
        """
        return label_map(self.vocabulary.emotions, self.data_vocabulary.emotions)

    def setup(self, stage: str) -> None:
        """Build the model unless that has happened (Lightning's hook)."""
        data = self.trainer.datamodule
        if not hasattr(self, "model"):
            self.prepare(data, initialise=stage == "fit")
        self._data_vocabulary = data.vocabulary
        self._accuracy, self._affect = None, {}
        if stage == "fit":
            check_names(self.vocabulary, data.vocabulary)

    def prepare(self, data: EmotionDataModule, initialise: bool, vocabulary: Vocabulary | None = None) -> None:
        """Build the model for the data; mistakes in the configuration show here.

        Args:
            data: gives the vocabulary and the size of images.
            initialise: load ``init_from``, where it is set.
            vocabulary: names of a checkpoint whose weights will be loaded; None takes the data's.
        """
        content, info = None, None
        if initialise and self.init_from is not None:
            content, info = read_checkpoint(self.init_from, self.init_stages)
        self._data_vocabulary = data.vocabulary
        self.build(vocabulary or self.starting_vocabulary(data.vocabulary, info))
        check_sizes(data, self.input_sizes(), self.backbones(), self.vocabulary)
        if content is not None and info is not None:
            self.initialise(content["state_dict"], info)

    def starting_vocabulary(self, data: Vocabulary, info: CheckpointInfo | None) -> Vocabulary:
        """Return the names to train on: the data's, unless a method keeps some of the checkpoint ``init_from``."""
        return data

    def initialise(self, state: dict[str, Tensor], info: CheckpointInfo) -> None:
        """Load the weights of ``init_from``; stages also fit them to other names."""
        self.load_state_dict(state)

    def build(self, vocabulary: Vocabulary) -> None:
        """Build the model, its first weights decided by ``seed`` alone."""
        self._vocabulary = vocabulary
        torch.manual_seed(mixed_seed(self.seed))
        self.model = self.make_model(vocabulary)

    def on_fit_start(self) -> None:
        """Write the checkpoint of a method that has nothing to train."""
        if not self.trains and not self.trainer.fast_dev_run:
            path = Path(self.trainer.default_root_dir) / "best.ckpt"
            self.trainer.save_checkpoint(path, weights_only=True)
            print_once(f"nothing to train; wrote {path}")

    # Optimising.

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups; by default one of all parameters that learn, with the optimiser's own rate."""
        return [{"params": [parameter for parameter in self.model.parameters() if parameter.requires_grad]}]

    def configure_optimizers(self) -> dict[str, Any] | None:
        """The optimiser by group; warm-up and one cosine, per step."""
        if self.optimizer is None or not self.trains:
            return None
        self.schedule.expect(self.trainer)
        optimizer = self.optimizer.build(self.parameter_groups())
        scheduler = LambdaLR(optimizer, self.schedule.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Count the steps to come, also where a run resumes within an epoch and does not meet its start."""
        self.schedule.count(self.trainer)

    def on_train_epoch_start(self) -> None:
        """Count the steps to come: the training set may have grown by generated images."""
        self.schedule.epoch_step = self.trainer.global_step
        self.schedule.count(self.trainer)

    # Training.

    @abstractmethod
    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and its named terms."""

    def on_train_batch_start(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Seed dropout by step and rank: a resumed run equals an unbroken one, ranks drop units of their own."""
        torch.manual_seed(mixed_seed(self.seed, self.trainer.fit_loop.total_batch_idx, self.global_rank))

    def training_step(self, batch: EmotionBatch, batch_idx: int) -> Tensor:
        """Return the total loss, and log it with its terms.

        The returned loss is this rank's part (:mod:`uniemo.distributed`): gradients averaged over ranks are those of
        one process with the images of all ranks. The logged values are those over all ranks. With
        ``trainer.accumulate_grad_batches`` that holds for each batch: negatives and counts of masked losses are those
        of one batch of all ranks, and the step takes the mean of its batches' gradients.
        """
        total, terms = self.losses(batch)
        named = {f"loss/{name}": value for name, value in terms.items()} | {"loss/total": total}
        values = average(torch.stack([value.detach() for value in named.values()]))
        self._loss_check.begin([*terms, "total"], values)
        self.log_dict(dict(zip(named, values.unbind(), strict=True)), prog_bar=True, batch_size=len(batch))
        return total

    def on_after_backward(self) -> None:
        """Stop where the losses of the batch are not finite."""
        self._loss_check.end(self.trainer)

    # Classification.

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion logits of CLIP-normalised images (B, 3, R, R)."""
        logits: Tensor = self.model(images)
        return logits

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the emotion logits of images, and (B, 2) valence and arousal on the vocabulary's scale or None."""
        return self(images), None

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return (B, C) probabilities of CLIP-normalised images (B, 3, R, R)."""
        return self(images).softmax(dim=-1)

    @property
    def accuracy(self) -> AccuracyMetrics:
        """The accuracy metrics, in the data's classes."""
        if self._accuracy is None:
            self._accuracy = AccuracyMetrics(self.label_map())
        return self._accuracy

    def confusion(self, split: Literal["val", "test"]) -> Tensor | None:
        """Return (C, C) counts of the split evaluated last, rows are the data's labels; None before that."""
        return None if self._accuracy is None else self._accuracy.confusion.get(split)

    def answers(self, split: Literal["val", "test"]) -> dict[str, Tensor] | None:
        """Return the answers on the split evaluated last (:class:`uniemo.modules.accuracy.SplitConfusion`)."""
        return None if self._accuracy is None else self._accuracy.answers.get(split)

    def on_validation_start(self) -> None:
        """Print how emotions are matched, where they differ."""
        if self.trainer.state.fn == "validate":
            print_label_map(self.label_map(), self.loggers)

    def on_test_start(self) -> None:
        """Print how emotions are matched, where they differ."""
        print_label_map(self.label_map(), self.loggers)

    def validation_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Update the accuracy metrics."""
        self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/accuracy``, ``val/balanced_accuracy``, measures of distributions, of valence and of arousal."""
        self._log_metrics("val", by_class=self.trainer.state.fn == "validate")

    def test_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Update the accuracy metrics."""
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the same of the test split, and the accuracy of each of the data's emotions."""
        self._log_metrics("test", by_class=True)

    def predict_step(self, batch: EmotionBatch, batch_idx: int) -> dict[str, Any]:
        """Return names, sample ids, (B, C) probabilities and, where the data has other classes, ``mapped`` ones.

        A model with a head for them adds ``affect``: (B, 2) valence and arousal on its vocabulary's scale.
        """
        logits, affect = self.outputs(batch.images)
        probabilities = logits.softmax(dim=-1)
        check_scores(probabilities.isfinite().all(dim=1), "emotion probabilities")
        result = {"names": batch.names, "sample_id": batch.sample_id, "probabilities": probabilities}
        if affect is not None:
            check_scores(affect.isfinite().all(dim=1), "valence and arousal")
            result["affect"] = affect
        try:
            labels = self.label_map()
        except UniEmoError:
            return result  # images can be predicted on whatever they are labelled with
        if not labels.same_classes:
            result["mapped"] = sum_classes(labels, probabilities)  # (B, T)
        return result

    def _evaluate(self, split: Literal["val", "test"], batch: EmotionBatch) -> None:
        """Update the metrics of a split."""
        logits, affect = self.outputs(batch.images)
        self.accuracy.update(split, logits, batch)
        own, scale = self.vocabulary.affect, self.data_vocabulary.affect
        if affect is not None and own is not None and scale is not None:
            if split not in self._affect:
                self._affect[split] = SplitAffect().to(affect.device)
            self._affect[split].update(to_scale(to_shares(affect, own), scale), batch)

    def _log_metrics(self, split: Literal["val", "test"], by_class: bool) -> None:
        values = self.accuracy.compute(split, by_class)
        if split in self._affect:
            values |= self._affect[split].compute()
            self._affect[split].reset()
        for name, value in values.items():
            self.log(f"{split}/{name}", value, prog_bar=name == "accuracy")

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
        check_finite(checkpoint["state_dict"], TO_WRITE, LOWER_RATE)
        checkpoint["uniemo"] = {
            "version": __version__,
            "stage": self.stage,
            "vocabulary": self.vocabulary.to_dict(),
            "model": self.description(),
            "backbones": {kind: {"name": name, "hash": fingerprint(name)} for kind, name in self.backbones().items()},
            "config": self.config_text,
            "epoch_step": self.schedule.epoch_step,
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
        for what, own, other in (
            ("stage", self.stage, about["stage"]),
            ("the method", self.method, about.get("method", "")),
        ):
            if other != own:
                raise UniEmoError(f"checkpoint must be of {what} {own}; it is of {other}: give another")
        check_finite(checkpoint["state_dict"], "checkpoint", DIVERGED)
        self.schedule.epoch_step = about.get("epoch_step", 0)
        vocabulary = Vocabulary.from_dict(about["vocabulary"])
        if self._data_vocabulary is not None and self.trainer.state.fn == "fit":
            check_names(vocabulary, self._data_vocabulary)
        if not hasattr(self, "model") or vocabulary != self.vocabulary:
            self.build(vocabulary)  # the module keeps the names it was trained on, whatever the data's are
            self._accuracy = None

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        """Load a checkpoint's state; without frozen backbones, all else must fit, whatever ``strict`` says."""
        self.load_trained_state({name.removeprefix(PREFIX): value for name, value in state_dict.items()})
        return torch.nn.modules.module._IncompatibleKeys([], [])


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a constructor's argument as plain values that a checkpoint may hold."""
    if dataclasses.is_dataclass(value):
        return plain_config(value)
    return list(value) if isinstance(value, tuple) else value


def _remove_frozen(module: EmotionModule, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Leave frozen backbones out of a module's state, which forked processes hand back whole (gigabytes)."""
    kept = {f"{prefix}{PREFIX}{name}" for name in module.trained_state()}
    for name in state.keys() - kept:
        del state[name]
