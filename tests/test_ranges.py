"""Every number that a user may give has a range, in the type of its argument, and is checked before any work."""

import argparse
import dataclasses
import importlib
import inspect
import math
import pkgutil
import typing
from pathlib import Path

import lightning as L
import pytest

import uniemo
from tests.refusals import one_line_error, refused
from tests.tiny_runs import recipe
from uniemo.baselines.coop import CoOp
from uniemo.cli import COMMANDS, main, preflight, training
from uniemo.cli.data import TOOLS
from uniemo.cli.parsing import Parser, number
from uniemo.data import EmoSet, EmotionDataModule
from uniemo.errors import Count, Range, Seed, UniEmoError, argument_types, check_ranges
from uniemo.modules.base import EmotionModule

NEGATIVE = {"beta_init", "affect_scale", "valence", "arousal", "scale"}  # arguments that may be below 0


def classes():
    """Return every class whose arguments the training commands take."""
    for module in pkgutil.walk_packages(uniemo.__path__, "uniemo."):
        if module.name.startswith(("uniemo.modules", "uniemo.baselines", "uniemo.data")):
            importlib.import_module(module.name)
    waiting, seen = [EmotionModule, EmotionDataModule, *training._CALLBACKS.values()], []
    for kind in waiting:
        if kind in seen or not kind.__module__.startswith("uniemo."):
            continue
        seen.append(kind)
        waiting += kind.__subclasses__()
        for hint in argument_types(kind).values():
            parts = (hint, *typing.get_args(hint))
            waiting += [part for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part)]
    return seen


def bare_numbers(hint):
    """Whether a type has a number without a range."""
    if typing.get_origin(hint) is typing.Annotated:
        return not any(isinstance(rule, Range) for rule in hint.__metadata__)
    return hint in (int, float) or any(bare_numbers(part) for part in typing.get_args(hint))


def numbers(hint):
    """Return the ranges in a type."""
    if typing.get_origin(hint) is typing.Annotated:
        return [rule for rule in hint.__metadata__ if isinstance(rule, Range)]
    return [rule for part in typing.get_args(hint) for rule in numbers(part)]


def test_each_number_of_a_class_has_a_range():
    bare = [
        f"{kind.__name__}.{name}"
        for kind in classes()
        for name, hint in argument_types(kind).items()
        if bare_numbers(hint)
    ]
    assert bare == []


def test_each_number_of_a_class_refuses_what_is_none():
    checked = 0
    for kind in classes():
        for name, hint in argument_types(kind).items():
            for wrong in (math.nan, math.inf, -math.inf, *([] if name in NEGATIVE else [-1])) if numbers(hint) else ():
                with one_line_error(rf"^data\.{name} must be"):
                    check_ranges(kind, {name: wrong}, "data.")
                checked += 1
    assert checked > 300


def test_each_number_of_the_trainer_has_a_range():
    parameters = inspect.signature(L.Trainer.__init__).parameters
    found = {
        name for name, one in parameters.items() if {int, float} & {one.annotation, *typing.get_args(one.annotation)}
    }
    assert found - {"devices"} == preflight.TRAINER.keys()  # check_devices looks at these


def parsers(monkeypatch):
    """Yield the argparse parser of each command."""

    class Parsed(Exception):
        pass

    def record(parser, *_):
        raise Parsed(parser)

    monkeypatch.setattr(Parser, "parse_known_args", record)
    for command in (*COMMANDS, *(f"data {tool}" for tool in TOOLS)):
        if not command.startswith(("fit", "validate", "test", "predict")) and command != "data":
            with pytest.raises(Parsed) as caught:
                main(command.split())
            yield caught.value.args[0]


def test_each_number_of_a_command_refuses_what_is_none(monkeypatch):
    checked = 0
    for parser in parsers(monkeypatch):
        for action in parser._actions:
            assert action.type not in (int, float), (parser.prog, action.dest)
            if action.type in (None, str, Path):
                assert not isinstance(action.default, int | float) or isinstance(action.default, bool), action.dest
                continue
            for wrong in ("nan", "inf", "-inf", "1e999", "x", "", *([] if action.dest in NEGATIVE else ["-1"])):
                with pytest.raises(argparse.ArgumentTypeError):
                    action.type(wrong)
            checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        (Range(1, 4), (1, 4), (0, 5)),
        (Range(0, 1, above=True, below=True), (0.5,), (0, 1)),
        (Range(0), (0, 1e300), (-1, math.nan, math.inf)),
        (Range(2, 8, zero=True), (0, 2, 8), (1, 9, -1)),
    ],
)
def test_range(rule, inside, outside):
    for value in inside:
        rule.check("x", value)
    for value in outside:
        with pytest.raises(UniEmoError, match=r"^x must be .*; got"):
            rule.check("x", value)


def test_numbers_of_text():
    assert number(Count)("12") == 12
    assert number(Seed)("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be a whole number; got '1\.5'$"):
        number(Count)("1.5")


def test_from_python():
    with one_line_error(r"data\.batch_size must be at least 1; got 0"):
        EmoSet("x", batch_size=0)
    with one_line_error(r"model\.context_length must be at least 1; got 0"):
        CoOp(context_length=0)


WRONG = {
    "model.head.dropout=1.5": "model.head.dropout must be below 1; got 1.5",
    "model.head.hidden=0": "model.head.hidden must be at least 1; got 0",
    "model.optimizer.lr_head=.nan": "model.optimizer.lr_head must be at least 0; got nan",
    "model.optimizer.lr_head=.inf": "model.optimizer.lr_head must be finite; got inf",
    "model.optimizer.warmup=-1": "model.optimizer.warmup must be at least 0; got -1",
    "model.encoder.query_length=1000000000": "model.encoder.query_length must be at most 65536; got 1000000000",
    "model.encoder.stages=[0,-1]": "model.encoder.stages must be at least 1; got 0",
    "model.attributes.temperature=0": "model.attributes.temperature must be at least 0.0001; got 0",
    "model.diffusion.steps=0": "model.diffusion.steps must be at least 1; got 0",
    "model.diffusion.lora_rank=-1": "model.diffusion.lora_rank must be at least 0; got -1",
    "model.diffusion.drop_condition=2": "model.diffusion.drop_condition must be at most 1; got 2",
    "model.diffusion.scheduler=DDIMSchedular": "model.diffusion.scheduler must be a scheduler of diffusers or "
    "dpm++, ",
    "model.attributes={source: table}": "model.attributes.table must name a file for source table; got null",
    "model.attributes={source: table, table: no.json}": "model.attributes.table must be an existing file; got no.json",
    "data.batch_size=100000000000": "data.batch_size must be at most 1048576; got 100000000000",
    "data.crop_scale=[0.5,.nan]": "data.crop_scale must be at least 0; got nan",
    "seed_everything=-1": "seed_everything must be at least 0; got -1",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val must be at least 0; got -1",
    "trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches must be at least 1; got 0",
    "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch must be at least 1; got 0",
    "trainer.limit_val_batches=1.5": "trainer.limit_val_batches must be at most 1; got 1.5",
    "best_checkpoint.monitor=nope": "best_checkpoint.monitor must be val/accuracy or val/balanced_accuracy for joint",
    "generation_metrics.val_images=1": "generation_metrics.val_images must be 0 or at least 2; got 1",
    "explicit_feedback.high=.nan": "explicit_feedback.high must be at least 0; got nan",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_found_before_anything_is_built(tmp_path, monkeypatch, capsys, wrong):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training.TrainingCLI, "instantiate_classes", lambda cli: pytest.fail("it came to building"))
    line = refused(capsys, *recipe("joint"), "--run_dir", "run", f"--{wrong}")
    assert WRONG[wrong] in line
    assert list(tmp_path.iterdir()) == []


def test_found_in_a_file(tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("model: {init_args: {optimizer: {lr_head: .nan}}}\n")
    assert "model.optimizer.lr_head must be at least 0; got nan" in refused(capsys, *recipe("joint"), "--config", path)


@pytest.mark.parametrize("monitor", ["val/balanced_accuracy", "loss/total", "val/coverage/scene", "val/FID[x]"])
def test_what_may_be_monitored(monkeypatch, capsys, monitor):
    monkeypatch.setattr(preflight, "find_clip", lambda name: pytest.skip("accepted"))
    main([*recipe("joint"), "--best_checkpoint.monitor", monitor])
