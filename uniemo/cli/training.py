"""``uniemo fit``, ``validate``, ``test``, ``predict``: a LightningCLI."""

from __future__ import annotations

import logging
import os
import signal
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NoReturn

import lightning as L
import yaml
from jsonargparse import set_loader, set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from uniemo.cache import check_unlocked, lock_folder
from uniemo.callbacks.attention_maps import AttentionMaps
from uniemo.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from uniemo.callbacks.environment import Environment
from uniemo.callbacks.explicit_feedback import ExplicitFeedback
from uniemo.callbacks.generation_metrics import GenerationMetrics
from uniemo.callbacks.predictions import PredictionWriter
from uniemo.callbacks.progress import LossProgressBar
from uniemo.callbacks.save_config import SaveConfig
from uniemo.callbacks.summary import Summary
from uniemo.checkpoint import CheckpointInfo, check_stage, fitting
from uniemo.cli.arguments import prepare, read_config
from uniemo.cli.estimating import estimated
from uniemo.cli.messages import check_keys, check_sections, explain
from uniemo.cli.parsing import check_writable
from uniemo.cli.preflight import (
    check_choices,
    check_devices,
    check_monitor,
    check_monitored_data,
    check_numbers,
    check_precision,
    check_strategy,
    check_weights,
    class_of,
    load_yaml,
)
from uniemo.cli.run_folder import checkpoint_to_resume, folder_of_results, remove_results, use_splits_of
from uniemo.data.datamodule import EmotionDataModule
from uniemo.distributed import is_first
from uniemo.errors import UniEmoError, naming
from uniemo.launch import LOST, ending_with_parent, lost_contact
from uniemo.modules.base import EmotionModule
from uniemo.modules.transfer import check_names

_RUN_KEYS = (
    *("run_dir", "resume", "overwrite", "weights", "note", "trust", "estimate", "ckpt_path", "weights_only", "verbose"),
    "return_predictions",
)
# checkpoints do not remember the machines that they were made on
_ANY_MACHINE = {"accelerator": "auto", "devices": "auto", "num_nodes": 1, "strategy": "auto"}
_CALLBACKS: dict[str, type[L.Callback]] = {
    "best_checkpoint": BestCheckpoint,
    "last_checkpoint": LastCheckpoint,
    "generation_metrics": GenerationMetrics,
    "attention_maps": AttentionMaps,
    "explicit_feedback": ExplicitFeedback,
}
_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
_DESCRIPTIONS = {
    "fit": "Train a stage. Each recipe runs on the embedded miniature from an empty folder; overlays stack.",
    "validate": "Evaluate a checkpoint on the validation split; its own configuration is used, options win over it.",
    "test": "Evaluate a checkpoint on the test split; its own configuration is used, options win over it.",
    "predict": "Write the test split's emotion probabilities to predictions.jsonl beside the checkpoint.",
}
_EXAMPLES = """examples:
  uniemo fit --config understanding.yaml
  uniemo fit --config joint.yaml --model.init_from runs/understanding/best.ckpt --trainer.max_epochs 3
  uniemo fit --config joint.yaml --config data/emoset.yaml --config model/vit_b32.yaml --config model/sd15.yaml
  uniemo fit --config paper/joint.yaml --config paper/sdxl.yaml --data.root /data/EmoSet
  uniemo fit --config paper/joint.yaml --config paper/literal/joint.yaml --data.root /data/EmoSet
  uniemo fit --config joint.yaml --config cached_latents.yaml
  uniemo fit --config joint.yaml --config model/vit_l14.yaml --weights random
  uniemo fit --config joint.yaml --resume
  uniemo fit --config baselines/coop.yaml
  uniemo fit --config paper/joint.yaml --config paper/sana.yaml --estimate
  uniemo test --ckpt runs/joint/best.ckpt --data.root /data/EmoSet
  uniemo test --ckpt runs/joint/best.ckpt --data FI --data.root /data/FI
what can be set: --model.help JointModule, --data.help EmoSet, and below
--ckpt FILE brings model, data and numbers of the configuration in a checkpoint, and with --trust classes of your own
"""
_EXPECTED_WARNINGS = (
    r".*does not have many workers which may be a bottleneck.*",  # the miniature is decoded once, in memory
    r".*is smaller than the logging interval.*",
    r".*Checkpoint directory .* exists and is not empty.*",  # the run folder is checked before
    r".*module\(s\) in eval mode at the start of training.*",  # frozen networks are meant to be
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning 2.6 on a newer torch
    r".*sync_dist=True\)` when logging on epoch level.*",  # metrics are the same on all ranks
    r".*Using `DistributedSampler` with the dataloaders.*",  # repeated samples are counted once, by their ids
    r".*The `srun` command is available.*",
    r".*this fit will run with no optimizer.*",  # of a baseline that has nothing to train
    r".*lr_scheduler\.step\(\)` before `optimizer\.step\(\)`.*",  # on resume, by Lightning's own order
)


class _Parser(LightningArgumentParser):
    """LightningCLI's parser with one-line errors."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the mistake as UniEmoError, near matches named."""
        raise UniEmoError(explain(message, self))


class TrainingCLI(LightningCLI):
    """Lightning's command line with run folders, one-line errors and configurations out of checkpoints.

    Args:
        args: the command and its options, as :func:`uniemo.cli.arguments.prepare` leaves them.
        checkpoint: what ``--ckpt`` says about itself, None without one.
    """

    def __init__(self, args: list[str], checkpoint: CheckpointInfo | None) -> None:
        self.command = args[0]
        self.checkpoint = checkpoint
        parser_kwargs: dict[str, Any] = {"prog": "uniemo", "allow_abbrev": False}
        parser_kwargs[self.command] = {"description": _DESCRIPTIONS[self.command], "allow_abbrev": False}
        super().__init__(
            EmotionModule,
            EmotionDataModule,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs=parser_kwargs,
            parser_class=_Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:
        """Build the parser of the given command alone: each takes a tenth of a second."""
        return {self.command: super().subcommands()[self.command]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parse, then check the files for what jsonargparse passes over."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().parse_arguments(parser, args)
        parsed = self.config[self.config.subcommand]
        check_sections(parsed, parser)
        check_numbers(parsed, _CALLBACKS)
        for arg in args:
            path = arg.removeprefix("--config=")
            if path != arg and "\n" not in path:  # a file, not what a checkpoint holds
                check_keys(read_config(Path(path)), parsed.as_dict())

    @property
    def estimates(self) -> bool:
        """Whether the command counts what a fit takes, and does nothing else."""
        return self.config.subcommand == "fit" and bool(self.config.fit.estimate)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder, the configurable callbacks and one seed for all."""
        flag: dict[str, Any] = {"type": bool, "nargs": "?", "const": True, "default": False}
        parser.add_argument("--run_dir", type=str | None, default=None, help="run folder (default runs/<stage>)")
        parser.add_argument("--resume", **flag, help="go on from last.ckpt of the run folder")
        parser.add_argument("--overwrite", **flag, help="train into a folder that holds a run")
        parser.add_argument(
            "--weights",
            type=Literal["pretrained", "random"],
            default="pretrained",
            help="random: true architectures without their weights, for dry runs; checkpoints remember it",
        )
        parser.add_argument("--trust", **flag, help="run code that the files bring")
        parser.add_argument(
            "--estimate", **flag, help="count the memory and work of a fit on cards of 12 to 80 GB, and do nothing else"
        )
        parser.add_argument("--note", type=str | None, default=None, help="printed when a fit starts; for recipes")
        for name, callback in _CALLBACKS.items():
            parser.add_lightning_class_args(callback, name)
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: the stored one came first, the command line after it, and so it wins."""

    def before_instantiate_classes(self) -> None:
        """Settle the run folder and the checkpoint before anything is built."""
        config = self.config[self.config.subcommand]
        check_devices(config.trainer.devices, str(config.trainer.accelerator))
        check_precision(config.trainer.precision)
        kind = class_of(config.model)
        strategy = config.trainer.strategy
        name = strategy if isinstance(strategy, str) else str(strategy.class_path)
        check_strategy(name, kind.method or kind.stage, generates="diffusion" in config.model.init_args)
        if self.estimates:
            config.weights, config.trainer.logger = "random", False
            check_weights(config, "fit")
            return
        if self.config.subcommand == "fit":
            check_monitor(config, kind)
            given = config.run_dir or config.trainer.default_root_dir
            self.run_dir = Path(given or f"runs/{kind.method or kind.stage}").expanduser()
            resume = bool(config.resume or config.ckpt_path == "last")
            if is_first():  # whose lock is that of all
                check_unlocked(self.run_dir, "--run_dir")
            self.checkpoint = self.checkpoint or checkpoint_to_resume(self.run_dir, resume, config.overwrite)
        else:
            if self.checkpoint is None:
                raise UniEmoError(f"uniemo {self.config.subcommand} needs --ckpt; give runs/<stage>/best.ckpt")
            self.run_dir = Path(config.run_dir or folder_of_results(self.checkpoint, config.data)).expanduser()
            if "init_from" in config.model.init_args:
                config.model.init_args.init_from = None  # the checkpoint holds the weights
        check_weights(config, str(self.config.subcommand))
        if self.checkpoint is None:
            check_choices(config.model.init_args)
        if not kind.trains:
            config.trainer.max_epochs, config.trainer.max_steps = 0, -1
        if self.checkpoint is not None:
            check_stage(self.checkpoint, (kind.stage,))
            if self.config.subcommand == "fit" and kind.trains and not self.checkpoint.resumable:
                raise UniEmoError(
                    f"--ckpt must hold optimiser and progress for fit; {self.checkpoint.path} holds weights alone: "
                    "give last.ckpt, or start anew with --model.init_from where the stage has it"
                )
            config.ckpt_path, config.weights_only = str(self.checkpoint.path), True
            use_splits_of(self.checkpoint, config.data)
        config.trainer.default_root_dir = str(self.run_dir)
        if not config.trainer.fast_dev_run:
            check_writable(self.run_dir, "--run_dir")

    def instantiate_classes(self) -> None:
        """Build module, data and trainer; what a constructor says about its arguments comes through in one line."""
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, UniEmoError):
                cause = cause.__cause__  # jsonargparse wraps it
            raise UniEmoError(str(cause or error)) from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401
        """Add the callbacks that every run has, and TensorBoard in the run folder."""
        trainer = self._get(self.config_init, "trainer")
        command = str(self.subcommand)
        extra: list[L.Callback] = [LossProgressBar()] if trainer.get("enable_progress_bar") is not False else []
        extra += [Summary(), Environment()]  # behind the bar, which clears its line
        if command == "fit" and trainer.get("enable_checkpointing") is not False and not trainer.get("fast_dev_run"):
            extra.append(SaveConfig(self._parser("fit"), self.config[command], save_to_log_dir=False))
        if command == "predict":
            extra.append(PredictionWriter())
        if trainer.get("logger") in (None, True) and not trainer.get("fast_dev_run"):
            purge = None
            if command == "fit":  # curves leave out what a killed run logged after its last checkpoint
                purge = 0 if self.checkpoint is None else self.checkpoint.step + 1
            kwargs["logger"] = TensorBoardLogger(
                str(self.run_dir), name="", version="", default_hp_metric=False, purge_step=purge
            )
        self.trainer_defaults["callbacks"] = extra
        return super().instantiate_trainer(**kwargs)

    def after_instantiate_classes(self) -> None:
        """Look for mistakes before any work; hand the module its resolved configuration."""
        command = str(self.subcommand)
        if self.estimates:
            self.estimate = estimated(self.model, self.datamodule, self.trainer)
            print(self.estimate.text())
            return
        self.datamodule.check(_SPLITS[command])
        if is_first():
            print(self.datamodule.describe())
            if command == "fit" and self.config.fit.note:
                print(f"note: {self.config.fit.note}")
        config = self.config[command].clone()
        for key in _RUN_KEYS:
            config.pop(key, None)
        config.trainer.default_root_dir = None
        for key, value in _ANY_MACHINE.items():
            config.trainer[key] = value
        self.model.config_text = self._parser(command).dump(
            config, skip_link_targets=True, skip_none=False, skip_validation=True
        )
        self.model.trust = self.config[command].trust
        self.model.prepare(
            self.datamodule,
            initialise=command == "fit" and self.checkpoint is None,
            vocabulary=None if self.checkpoint is None else self.checkpoint.vocabulary,
        )
        if command in ("validate", "test"):
            self.model.label_map()  # or there is nothing to evaluate
        if command == "fit":
            compares = getattr(self.model, "attribute_kinds", ()) or self.datamodule.vocabulary.affect
            if self.datamodule.batch_size * self.trainer.world_size == 1 and compares:
                warnings.warn(
                    "data.batch_size 1: the contrastive losses L_S and L_O and the loss of valence and arousal compare "
                    "the images of a step and vanish; take 2 or more",
                    stacklevel=2,
                )
            check_names(self.model.vocabulary, self.datamodule.vocabulary)
            check_monitored_data(self.config.fit.best_checkpoint.monitor, self.datamodule.vocabulary)
        for callback in self.trainer.callbacks:
            if command == "fit" and isinstance(callback, ExplicitFeedback):
                callback.check(self.model, self.datamodule)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Leave Lightning's own table out: Summary prints one."""
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        if "verbose" in arguments:
            arguments["verbose"] = False
        return arguments

    def _run_subcommand(self, subcommand: str) -> None:
        """Run, and end as the command line does after Ctrl-C and SIGTERM."""
        if self.estimates:
            return
        writes = subcommand == "fit" and not self.config.fit.trainer.fast_dev_run and is_first()
        try:
            with ExitStack() as stack:
                if writes:
                    stack.enter_context(lock_folder(self.run_dir, "--run_dir"))
                    if self.config.fit.overwrite and self.checkpoint is None:
                        remove_results(self.run_dir)
                stack.enter_context(naming(self.run_dir))
                if self.checkpoint is not None:
                    stack.enter_context(_restoring(self.checkpoint.path))
                super()._run_subcommand(subcommand)
        except SIGTERMException:
            raise SystemExit(128 + signal.SIGTERM) from None
        except SystemExit as stop:  # how Lightning ends a run after Ctrl-C
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


@contextmanager
def _restoring(path: Path) -> Iterator[None]:
    """Say in one line that a checkpoint does not fit, where Lightning fails while it restores its content."""
    try:
        yield
    except Exception as error:
        frames = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
        if any(Path(name).name == "checkpoint_connector.py" for name in frames):
            with fitting(path):
                raise
        raise


def run(args: list[str]) -> int:
    """Run fit, validate, test or predict; ``args`` begin with the command."""
    quiet()
    if "-h" in args or "--help" in args:
        print(_EXAMPLES)
        checkpoint = None
    else:
        args, checkpoint = prepare(args)
    launched = "LOCAL_RANK" in os.environ  # by a launcher, for a run of several processes
    try:
        with ending_with_parent() if launched else nullcontext():
            TrainingCLI(args, checkpoint)
    except RuntimeError as error:
        if lost_contact(error):
            raise UniEmoError(LOST) from error
        raise
    return 0


def quiet() -> None:
    """Keep expected notes of the libraries off the screen; let jsonargparse put no class in place of a plain value."""
    for name in ("lightning.pytorch", "lightning.fabric"):  # devices, seeds, tips; warnings stay
        logging.getLogger(name).setLevel(logging.WARNING)
    launcher = "lightning.fabric.strategies.launchers.subprocess_script"
    logging.getLogger(launcher).setLevel(logging.INFO)  # why it ends a run: a process has died
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    set_loader("yaml", load_yaml, (yaml.YAMLError,))
    set_parsing_settings(
        instantiate_subclass_spec_in_any=False, import_path_allowlist=["uniemo"], config_read_mode_fsspec_enabled=False
    )
