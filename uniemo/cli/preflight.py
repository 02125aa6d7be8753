"""Checks of a resolved configuration before anything is built: processes, strategy, weights."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from jsonargparse import Namespace, get_loader

from uniemo.callbacks.generation_metrics import ROLES
from uniemo.cli.parsing import check_cores
from uniemo.errors import Count, Natural, Range, Seed, Share, UniEmoError, check_ranges, range_of
from uniemo.metrics.label_distribution import MEASURES
from uniemo.miniature.paths import resolve
from uniemo.models.clip import find_clip
from uniemo.models.diffusion import find_diffusion
from uniemo.models.diffusion.components import find_adapter
from uniemo.models.diffusion.schedulers import find_scheduler
from uniemo.models.hub import random_name
from uniemo.modules.base import EmotionModule
from uniemo.modules.transfer import size_advice
from uniemo.text_files import DEEPEST, check_yaml
from uniemo.vocabulary import Vocabulary

_CONCORDANCE = ("val/ccc_valence", "val/ccc_arousal")  # of stages, on data with valence and arousal
_COUNT, _NATURAL, _SHARE = range_of(Count), range_of(Natural), range_of(Share)
_UNLIMITED = Range(-1, 2**31 - 1)  # -1 is without end
# Lightning's own numbers, which it checks late or not at all: the range of a whole number, and of one with a point
TRAINER: dict[str, tuple[Range, Range]] = {
    **{f"limit_{split}_batches": (_NATURAL, _SHARE) for split in ("train", "val", "test", "predict")},
    **{name: (_NATURAL, _NATURAL) for name in ("min_epochs", "min_steps", "log_every_n_steps", "fast_dev_run")},
    **{name: (_UNLIMITED, _UNLIMITED) for name in ("max_epochs", "max_steps", "num_sanity_val_steps")},
    **{name: (_COUNT, _COUNT) for name in ("num_nodes", "check_val_every_n_epoch", "accumulate_grad_batches")},
    "overfit_batches": (_NATURAL, _SHARE),
    "val_check_interval": (_COUNT, Range(0, 1, above=True)),
    "gradient_clip_val": (Range(0), Range(0)),
    "reload_dataloaders_every_n_epochs": (_NATURAL, _NATURAL),
}

_LOAD_YAML = get_loader("yaml")  # jsonargparse's own


def load_yaml(text: str) -> Any:  # noqa: ANN401
    """Read YAML as jsonargparse does, files that a section names included, but no bomb and nothing nested deeply."""
    if "\n" in text or "&" in text or len(text) > DEEPEST:
        try:
            check_yaml(text)
        except ValueError as error:
            raise yaml.YAMLError(str(error)) from error
    return _LOAD_YAML(text)


def check_numbers(config: Namespace, callbacks: Mapping[str, type]) -> None:
    """Raise for the first number of a command's configuration that is out of its range; ``callbacks`` by section."""
    for name, (whole, fraction) in TRAINER.items():
        value = config.trainer.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            (fraction if isinstance(value, float) else whole).check(f"trainer.{name}", value)
    seed = config.seed_everything
    if isinstance(seed, int) and not isinstance(seed, bool):
        range_of(Seed).check("seed_everything", seed)
    for name in ("model", "data"):
        section = config[name]
        check_ranges(class_of(section), section.init_args.as_dict(), f"{name}.")
    for name, kind in callbacks.items():
        check_ranges(kind, config[name].as_dict(), f"{name}.")


def class_of(section: Namespace) -> Any:  # noqa: ANN401 - a module's or data module's class
    """Return the class that a section names, which the parser has seen to be one."""
    module, _, name = str(section.class_path).rpartition(".")
    return getattr(importlib.import_module(module), name)


def check_devices(devices: int | str | Sequence[int], accelerator: str) -> None:
    """Refuse more processes than cores on a CPU; GPUs are Lightning's to check."""
    if devices == "auto" or not _on_cpu(accelerator):
        return
    if not str(devices).strip().isdecimal() or int(str(devices)) < 1:
        raise UniEmoError(f"--trainer.devices must be a number of processes from 1, or auto; got {devices}")
    check_cores(int(str(devices)), "--trainer.devices")


def _on_cpu(accelerator: str) -> bool:
    """Whether Lightning's ``trainer.accelerator`` means the CPU here."""
    from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

    if accelerator != "auto":
        return accelerator == "cpu"
    return not (CUDAAccelerator.is_available() or MPSAccelerator.is_available())


def check_precision(precision: int | str | None) -> None:
    """Refuse weights that are not in 32 bits: Adam divides by numbers that are 0 in half precision."""
    if str(precision) in ("16-true", "bf16-true", "64-true", "64"):
        raise UniEmoError(
            "trainer.precision must be 32-true, bf16-mixed or 16-mixed, which keep weights in 32 bits; "
            f"got {precision}: set --trainer.precision bf16-mixed or 32-true"
        )


def check_strategy(strategy: str, stage: str, generates: bool) -> None:
    """Refuse strategies that shard what is trained, or a UNet where there is none: checkpoints would hold a piece."""
    name = strategy.rpartition(".")[2].lower().replace("_", "")
    if name.startswith(("fsdp", "deepspeed", "modelparallel")):
        raise UniEmoError(
            "trainer.strategy must leave what is trained whole on every process, checkpoints hold it; "
            f"got {strategy}: take ddp, or --config strategy/fsdp.yaml, which shards the frozen UNet alone"
        )
    if name == "frozenfsdpstrategy" and not generates:
        raise UniEmoError(
            f"trainer.strategy must be ddp for {stage}, which has no UNet to shard; "
            f"got {strategy}: leave --config strategy/fsdp.yaml out"
        )


def check_weights(config: Namespace, command: str) -> None:
    """Put ``random:`` before the networks' names where ``weights`` is random; look for the weights of all others."""
    model, metrics, feedback = config.model.init_args, config.generation_metrics, config.explicit_feedback
    encoder, diffusion = model.get("encoder"), model.get("diffusion")  # a baseline may lack either
    if config.weights == "random":
        if encoder is None and diffusion is None:
            raise UniEmoError("--weights random is for methods with a CLIP or a diffusion model; this one has neither")
        if encoder is not None:
            encoder.clip = random_name(encoder.clip)
        feedback.clip = random_name(feedback.clip)
        if metrics.networks == "published":
            metrics.networks = "random"
        if metrics.clip is not None:
            metrics.clip = random_name(metrics.clip)
        elif metrics.networks == "miniature":
            metrics.clip = random_name("miniature:clip")
        if diffusion is not None:
            diffusion.path = random_name(diffusion.path)
    if encoder is not None:
        size, given = find_clip(encoder.clip), config.data.init_args.get("image_size")
        if size is not None and given is not None and size != given:
            raise UniEmoError(
                f"data.image_size must be {size}, what {encoder.clip} takes; got {given}: "
                f"{size_advice('clip', size, encoder.clip)}"
            )
    if diffusion is None:
        return
    find_diffusion(diffusion.path, diffusion.family)
    find_adapter(diffusion.adapter)
    measures = {"fit": metrics.every_n_epochs * metrics.val_images, "validate": metrics.val_images}
    if measures.get(command, metrics.test_images if command == "test" else 0):
        check_metric_networks(metrics)
    if feedback.num_per_emotion:
        find_clip(feedback.clip)


def check_metric_networks(metrics: Namespace) -> None:
    """Look for the weights of all networks of the generation metrics; what is missing is named in one line."""
    from uniemo.metrics.networks import choose_networks, find_networks, without_files
    from uniemo.metrics.protocols import STRICT

    overrides = {role: metrics[role] for role in ROLES if metrics[role] is not None}
    chosen = choose_networks(metrics.networks, (STRICT,), overrides)
    find_networks(chosen.values(), without_files(metrics.networks, "--generation_metrics.networks"))


def check_monitor(config: Namespace, kind: type[EmotionModule]) -> None:
    """Raise where nothing of the name ``best_checkpoint.monitor`` is logged; not for classes outside uniemo.

    Metrics of generated images, which carry the network in brackets, shares of attention, and the concordance of
    valence and arousal depend on the data.
    """
    monitor = str(config.best_checkpoint.monitor)
    own = not kind.__module__.startswith("uniemo.") or config.trainer.get("callbacks")
    if own or not kind.trains or monitor in (*kind.monitors, "loss/total"):
        return
    measure = MEASURES.get(monitor.removeprefix("val/"))
    if measure is not None and config.data.init_args.get("target") == "distribution":
        best = "max" if measure.higher_is_better else "min"
        if config.best_checkpoint.mode != best:
            raise UniEmoError(
                f"best_checkpoint.mode must be {best} with best_checkpoint.monitor {monitor}; got "
                f"{config.best_checkpoint.mode}: add --best_checkpoint.mode {best}"
            )
        return
    if monitor in _CONCORDANCE and not kind.method:
        return
    if monitor.startswith("val/coverage/") or (monitor.startswith("val/") and "[" in monitor):
        return
    first, *others = kind.monitors
    mode = "max" if first == "val/accuracy" else "min"
    also = f" or {' or '.join(others)}" if others else ""
    raise UniEmoError(
        f"best_checkpoint.monitor must be {first}{also} for {kind.method or kind.stage}, which logs no other; "
        f"got {monitor}: add --best_checkpoint.monitor {first} --best_checkpoint.mode {mode}"
    )


def check_monitored_data(monitor: str, data: Vocabulary) -> None:
    """Raise where ``best_checkpoint.monitor`` asks for valence or arousal, and the data has neither."""
    if monitor in _CONCORDANCE and data.affect is None:
        raise UniEmoError(
            f"best_checkpoint.monitor must be a metric of the data; got {monitor}, which has no valence and arousal: "
            "take val/accuracy, or other data"
        )


def check_choices(model: Namespace) -> None:
    """Raise for a scheduler that diffusers does not have, and for a table or checkpoint that is not there."""
    diffusion, attributes = model.get("diffusion"), model.get("attributes")
    if diffusion is not None:
        find_scheduler(diffusion.scheduler, "model.diffusion.scheduler")
    if attributes is not None and attributes.source == "table":
        if attributes.table is None:
            raise UniEmoError("model.attributes.table must name a file for source table; got null")
        if not resolve(attributes.table).is_file():
            raise UniEmoError(
                f"model.attributes.table must be an existing file; got {attributes.table}: correct the path"
            )
