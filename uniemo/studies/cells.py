"""Cells: what a study's rows ask for, as ``uniemo`` commands with a hash of everything that they depend on."""

from __future__ import annotations

import functools
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniemo import cache
from uniemo.configurations import find_configuration
from uniemo.errors import UniEmoError
from uniemo.studies.study import Column, Row, Scale, Study
from uniemo.text_files import read_yaml

VERSION = 1  # raise it when earlier results must not count any more
HERE = "{here}"
_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)(?::([\w-]+))?\}")  # {name} or {cell:name}, not a lone {}
_DEPTH = 5  # choices may name parameters in turn
_IMAGES = 1_000_000  # image seeds of one seed; those of the next begin after them, the first ones are those of tests

# Added to the arguments of each command unless they are there: its folder and its seed.
ADDED: dict[str, str] = {
    "fit": "--run_dir {folder} --seed_everything {seed} --trainer.enable_progress_bar false",
    "validate": "--run_dir {folder} --trainer.enable_progress_bar false",
    "test": "--run_dir {folder} --trainer.enable_progress_bar false",
    "generate": "--out {folder} --seed {images} --resume",  # never a seed of the images that a test generates
    "filter": "--out {folder} --seed {seed}",
    "evaluate": "--output {folder}/result.json",
    "train-classifier": "--output {folder}/head.safetensors --seed {seed}",
    "data synthesize": "--out {folder} --seed {seed}",
}


@dataclass(frozen=True)
class Command:
    """One ``uniemo`` command; ``{here}`` and ``{cell:hash}`` in its arguments are folders of cells."""

    run: str
    into: str
    args: tuple[str, ...]

    def on_disk(self, cells: Path, own: str) -> list[str]:
        """Return the arguments of ``uniemo`` for the cell of hash ``own`` in a folder of cells."""
        folder = str(cells / own)
        args = [re.sub(r"\{cell:(\w+)\}", lambda found: str(cells / found[1]), arg) for arg in self.args]
        return [*self.run.split(), *(arg.replace(HERE, folder) for arg in args)]

    def configurations(self) -> list[str]:
        """Return the values of ``--config``."""
        pairs = zip(self.args, self.args[1:], strict=False)
        return [name for option, name in pairs if option == "--config"]


@dataclass(frozen=True)
class Cell:
    """What is trained, generated and tested for a row, a column and a seed.

    Attributes:
        hash: of everything that its results depend on.
        name: of its definition.
        choices: the parameters that change its arguments.
        seed: of its commands.
        scale: ``miniature`` or ``paper``.
        quick: fewer steps and images.
        commands: its steps.
        parents: cells that are run before, whose folders the arguments name.
    """

    hash: str
    name: str
    choices: tuple[tuple[str, str], ...]
    seed: int
    scale: Scale
    quick: bool
    commands: tuple[Command, ...]
    parents: tuple[Cell, ...] = ()

    @property
    def title(self) -> str:
        """Name, choices and seed, for people."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.choices), f"seed {self.seed}"])


@dataclass(frozen=True)
class Setting:
    """How a study is run.

    Attributes:
        scale: ``miniature`` or ``paper``.
        quick: fewer steps and images.
        data: folder of the real datasets; None at miniature scale.
    """

    scale: Scale = "miniature"
    quick: bool = False
    data: Path | None = None


def cell_of(study: Study, row: Row, column: Column | None, seed: int, setting: Setting) -> Cell | None:
    """Return the cell of a row in a column (None: in a study without columns), or None where the row is not run."""
    if row.cell is None or setting.scale in row.not_run or (column is not None and not row.runs(column, setting.scale)):
        return None
    parameters = {**(column.parameters if column is not None else {}), **row.parameters}
    return resolve(study, row.cell, parameters, seed, setting)


def cells_of_row(study: Study, row: Row, seed: int, setting: Setting) -> list[Cell]:
    """Return the cells of a row's columns for a seed, each once, without their parents."""
    columns: list[Column | None] = list(study.columns) or [None]
    found = (cell_of(study, row, column, seed, setting) for column in columns)
    return list({cell.hash: cell for cell in found if cell is not None}.values())


def cells_of(study: Study, seed: int, setting: Setting) -> list[Cell]:
    """Return the cells of all rows and columns for a seed, each once, without their parents."""
    return list({cell.hash: cell for row in study.rows for cell in cells_of_row(study, row, seed, setting)}.values())


def with_parents(cells: list[Cell]) -> list[Cell]:
    """Return the cells and all that they need, each once, parents first."""
    ordered: dict[str, Cell] = {}
    for cell in cells:
        for one in (*with_parents(list(cell.parents)), cell):
            ordered.setdefault(one.hash, one)
    return list(ordered.values())


def resolve(study: Study, name: str, parameters: dict[str, str], seed: int, setting: Setting) -> Cell:
    """Return a cell of a definition; ``parameters`` win over its defaults, its own seed over that of the row.

    Raises:
        UniEmoError: unknown cell, parameter or configuration, or no ``--data`` where one is needed.
    """
    if name not in study.recipes:
        raise UniEmoError(f"{study.name}: a cell must be one of {', '.join(study.recipes)}; got {name!r}")
    recipe = study.recipes[name]
    values = {**recipe.defaults, **parameters}
    seed = seed if recipe.seed is None else recipe.seed
    parents: dict[str, Cell] = {}  # by hash
    used: dict[str, str] = {}

    def fill(found: re.Match[str]) -> str:
        """Return what one placeholder stands for."""
        key, argument = found.groups()
        if key == "here" or (key == "cell" and argument in parents):
            return found[0]
        if key == "cell" and argument:
            parent = resolve(study, argument, values, seed, setting)
            parents[parent.hash] = parent
            return f"{{cell:{parent.hash}}}"
        if key == "seed":
            return str(seed)
        if key == "data":
            return _data_folder(setting)
        if key not in values:
            raise UniEmoError(f"{study.name}: cell {name} must give {{{key}}} a value: add it to its defaults")
        args = _choice(study, key, values[key], setting)
        if args:
            used[key] = values[key]
        return args

    commands = []
    for step in recipe.steps:
        if step.scale not in (None, setting.scale) or any(values.get(key) != step.when[key] for key in step.when):
            continue
        text = _at_scale(step.args, setting)
        for _ in range(_DEPTH):
            text = _PLACE.sub(fill, text)
        added = ADDED.get(step.run, "").format(folder=f"{HERE}/{step.into}", seed=seed, images=(seed + 1) * _IMAGES)
        given = shlex.split(text)
        options = [option.split() for option in re.split(r" (?=--)", added) if option]
        more = [word for option in options if option[0] not in given for word in option]
        commands.append(Command(step.run, step.into, (*given, *more)))
    return Cell(
        hash=_digest(commands, seed),
        name=name,
        choices=tuple(sorted(used.items())),
        seed=seed,
        scale=setting.scale,
        quick=setting.quick,
        commands=tuple(commands),
        parents=tuple(parents.values()),
    )


def _at_scale(args: dict[str, str], setting: Setting) -> str:
    """Return the arguments that count: the scale's, those of every scale, those of ``--quick``."""
    keys = (setting.scale, "args", *(("quick",) if setting.quick else ()))
    return " ".join(args[key] for key in keys if key in args)


def _choice(study: Study, name: str, value: str, setting: Setting) -> str:
    """Return the arguments that a parameter's value stands for."""
    choices = study.parameters.get(name)
    if choices is None:
        return shlex.quote(value) if value else ""
    if value not in choices:
        raise UniEmoError(f"{study.name}: {name} must be one of {', '.join(choices)}; got {value!r}")
    return _at_scale(choices[value], setting)


def _data_folder(setting: Setting) -> str:
    """Return the folder of the real datasets."""
    if setting.data is None:
        raise UniEmoError("--scale paper needs the datasets: add --data with the folder that holds EmoSet, FI, …")
    return shlex.quote(str(setting.data.expanduser().absolute()))


def _digest(commands: list[Command], seed: int) -> str:
    """Return the hash of commands (parents stand in their arguments), their configurations' contents and the seed."""
    contents = {name: _content(name) for command in commands for name in command.configurations()}
    plain = [[command.run, command.into, *command.args] for command in commands]
    text = json.dumps([VERSION, seed, plain, contents], sort_keys=True, default=str)
    return cache.digest(text)


def _content(name: str) -> Any:  # noqa: ANN401
    """Return what a configuration file holds, without comments."""
    path = find_configuration(name)
    if path is None:
        raise UniEmoError(f"--config in a study must name a configuration here or a packaged one; {name!r} is neither")
    return _parsed(path, path.stat().st_mtime_ns)


@functools.cache
def _parsed(path: Path, changed: int) -> Any:  # noqa: ANN401
    """Return what a YAML file holds, read once for each modification time."""
    try:
        return read_yaml(path)
    except ValueError as error:
        raise UniEmoError(f"--config in a study must be a YAML file; {path} is not ({error}): mend it") from error
