"""What the three modules share: building the model, optimiser, accuracy, checkpoints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from uniemo import __version__
from uniemo.checkpoint import PREFIX, check_backbones, check_stage, fingerprint, plain_config, read_checkpoint
from uniemo.data.batch import EmotionBatch
from uniemo.errors import UniEmoError
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules.accuracy import SplitAccuracy
from uniemo.modules.config import ModelConfig
from uniemo.modules.noise import mixed_seed
from uniemo.modules.optim import OptimizerConfig, freeze, parameter_groups, schedule
from uniemo.modules.terms import LossConfig
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule


class UniEmoModule(L.LightningModule):
    """A stage of training around a :class:`uniemo.models.uniemo.UniEmoModel`.

    The model is built in ``setup``, when the data's vocabulary is known. Subclasses say which losses they sum.

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
        self._accuracy: dict[str, SplitAccuracy] = {}
        self._total_steps = 1
        plain = config.plain() | {"optimizer": plain_config(optimizer), "loss": plain_config(loss)}
        self.save_hyperparameters(
            {**plain, "init_from": init_from, "seed": seed, "_instantiator": _INSTANTIATOR}, logger=False
        )

    # Building.

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of emotions, scenes and objects."""
        if self._vocabulary is None:
            raise UniEmoError("the vocabulary is known after setup; call trainer.fit, validate, test or predict first")
        return self._vocabulary

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
        if not hasattr(self, "model"):
            self.prepare(self.trainer.datamodule, initialise=stage == "fit")

    def prepare(self, data: EmotionDataModule, initialise: bool) -> None:
        """Build the model for the data and load ``init_from``; mistakes in the configuration show here.

        Args:
            data: gives the vocabulary and the size of images.
            initialise: load ``init_from``, where it is set.
        """
        self.build(data.vocabulary)
        size, given = self.model.encoder.image_size, data.image_size
        if size != given:
            raise UniEmoError(
                f"data.image_size must be {size}, what {self.config.encoder.clip} takes; got {given}: "
                f"set --data.image_size {size}"
            )
        drawn = None if self.model.diffusion is None else self.model.diffusion.image_size
        if drawn is not None and drawn != data.diffusion_size:
            raise UniEmoError(
                f"data.diffusion_size must be {drawn}, what {self.config.backbones()['diffusion']} draws; "
                f"got {data.diffusion_size}: set --data.diffusion_size {drawn}"
            )
        if initialise and self.init_from is not None:
            self._initialise(self.init_from)

    def build(self, vocabulary: Vocabulary) -> None:
        """Build the model, its first weights decided by ``seed`` alone, and freeze what does not learn."""
        self._vocabulary = vocabulary
        torch.manual_seed(mixed_seed(self.seed))
        config = self.config
        model = UniEmoModel.build(vocabulary, config.encoder, config.head, config.attributes, config.generation())
        self.model = model
        freeze(self.parameters_by_group(), self.optimizer)
        self.clip_tuned = self.optimizer.lr_clip > 0

    def _initialise(self, path: str) -> None:
        """Load the weights of an earlier stage."""
        content, info = read_checkpoint(path, self.init_stages)
        if info.vocabulary != self.vocabulary:
            raise UniEmoError(
                f"model.init_from must have been trained on the same emotions and attributes as this data has; "
                f"{path} was not: start without it"
            )
        check_backbones(info, self.config.backbones())
        self._load(content["state_dict"], shared_only=True)

    def _load(self, state: dict[str, Tensor], shared_only: bool = False) -> None:
        """Load a checkpoint's state dict; a tuned CLIP tower in it will be in later checkpoints too."""
        names = {name.removeprefix(PREFIX): value for name, value in state.items()}
        self.model.load_trained_state_dict(names, shared_only)
        self.clip_tuned |= any(name.startswith("encoder.visual.") for name in names)

    def parameters_by_group(self) -> dict[str, list[torch.nn.Parameter]]:
        """Return the model's own parameters by optimiser group; frozen backbones are in none."""
        model = self.model
        groups: dict[str, list[torch.nn.Parameter]] = {
            "clip": list(model.encoder.clip_parameters()),
            "query": list(model.encoder.query_parameters()),
            "head": list(model.head.parameters()),
            "fusion": [],
        }
        members: dict[str, tuple[torch.nn.Module | None, ...]] = {
            "query": (model.scene_projection, model.object_projection),
            "fusion": (model.fusion, model.condition_loss),
        }
        for group, parts in members.items():
            groups[group] += [parameter for part in parts if part is not None for parameter in part.parameters()]
        if model.diffusion is not None:  # adapters, where there are any
            groups["fusion"] += [parameter for parameter in model.diffusion.parameters() if parameter.requires_grad]
        return groups

    # Optimising.

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW by group; warm-up and one cosine, per step."""
        self._total_steps = self._expected_steps()
        optimizer = AdamW(parameter_groups(self.parameters_by_group(), self.optimizer))

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

    def on_train_epoch_start(self) -> None:
        """Count the steps that are left: the training set may have grown by generated images."""
        trainer = self.trainer
        if trainer.max_steps <= 0 and trainer.max_epochs:
            per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
            self._total_steps = trainer.global_step + per_epoch * (trainer.max_epochs - trainer.current_epoch)

    # Steps.

    @abstractmethod
    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and its named terms."""

    def on_train_batch_start(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Seed dropout by step, so that a resumed run equals an unbroken one."""
        torch.manual_seed(mixed_seed(self.seed, self.trainer.fit_loop.total_batch_idx, self.global_rank))

    def training_step(self, batch: EmotionBatch, batch_idx: int) -> Tensor:
        """Sum and log the stage's losses."""
        total, terms = self.losses(batch)
        named = {f"loss/{name}": value.detach() for name, value in terms.items()} | {"loss/total": total.detach()}
        self.log_dict(named, prog_bar=True, batch_size=len(batch))
        return total

    def validation_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Count right answers."""
        self._count("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/accuracy``."""
        self._log_accuracy("val", per_emotion=False)

    def test_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Count right answers."""
        self._count("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log ``test/accuracy`` and that of each emotion."""
        self._log_accuracy("test", per_emotion=True)

    def predict_step(self, batch: EmotionBatch, batch_idx: int) -> dict[str, Any]:
        """Return names, sample ids and (B, C) probabilities."""
        return {"names": batch.names, "sample_id": batch.sample_id, "probabilities": self.classify(batch.images)}

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion logits of CLIP-normalised images (B, 3, R, R)."""
        model = self.model
        return model.logits(model.features(images))

    def _count(self, split: str, batch: EmotionBatch) -> None:
        """Add a batch to the split's accuracy."""
        if split not in self._accuracy:
            self._accuracy[split] = SplitAccuracy(len(self.vocabulary.emotions)).to(self.device)
        self._accuracy[split].update(self(batch.images), batch.emotion, batch.sample_id)

    def _log_accuracy(self, split: str, per_emotion: bool) -> None:
        """Log the split's accuracy and forget it."""
        accuracy, by_emotion = self._accuracy[split].compute()
        self._accuracy[split].reset()
        self.log(f"{split}/accuracy", accuracy, prog_bar=True)
        if per_emotion:
            for name, value in zip(self.vocabulary.emotions, by_emotion, strict=True):
                self.log(f"{split}/accuracy/{name}", value)

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
        vocabulary = Vocabulary.from_dict(about["vocabulary"])
        if not hasattr(self, "model"):
            self.build(vocabulary)
        if vocabulary != self.vocabulary:
            raise UniEmoError(
                "checkpoint and data must name the same emotions and attributes; they differ: "
                "give --data.root of the data it was trained on"
            )

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
