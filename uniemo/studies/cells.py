"""Cells: what a study's rows ask for, as ``uniemo`` commands with a hash that says what they depend on."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from uniemo.configurations import find_configuration
from uniemo.errors import UniEmoError
from uniemo.studies.study import Column, Recipe, Row, Scale, Study

VERSION = 1  # raise it when results of before must not count any more
HERE = "{here}"
_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)(?::([\w-]+))?\}")  # {name} or {cell:name}; a lone {} is left alone
_DEEP = 5  # choices may name parameters in turn
_IMAGES = 1_000_000  # image seeds of one seed; those of the next begin behind them

# What the runner adds to the words of each command: its folder and its seed.
ADDED: dict[str, str] = {
    "fit": "--run_dir {folder} --seed_everything {seed} --trainer.enable_progress_bar false",
    "validate": "--run_dir {folder} --trainer.enable_progress_bar false",
    "test": "--run_dir {folder} --trainer.enable_progress_bar false",
    "generate": "--out {folder} --seed {images} --resume",
    "filter": "--out {folder} --seed {seed}",
    "data synthesize": "--out {folder} --seed {seed}",
}


@dataclass(frozen=True)
class Command:
    """One ``uniemo`` command; ``{here}`` and ``{cell:hash}`` in its words are folders of cells."""

    run: str
    into: str
    words: tuple[str, ...]

    def on_disk(self, cells: Path, own: str) -> list[str]:
        """Return the words behind ``uniemo``.

        Args:
            cells: folder of all cells.
            own: hash of the command's cell.
        """
        folder = str(cells / own)
        words = [re.sub(r"\{cell:(\w+)\}", lambda found: str(cells / found[1]), word) for word in self.words]
        return [*self.run.split(), *(word.replace(HERE, folder) for word in words)]

    def configurations(self) -> list[str]:
        """Return the names behind ``--config``."""
        pairs = zip(self.words, self.words[1:], strict=False)
        return [name for option, name in pairs if option == "--config"]


@dataclass(frozen=True)
class Cell:
    """What is trained, generated and tested for a row, a column and a seed.

    Attributes:
        hash: of everything that its results depend on.
        name: of its definition.
        choices: the parameters that stand for words here.
        seed: of its commands.
        scale: ``miniature`` or ``paper``.
        quick: whether it is a first look.
        commands: its steps.
        parents: cells that are run before, whose folders the words name.
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
        choices = " ".join(f"{key}={value}" for key, value in self.choices)
        return " ".join(part for part in (self.name, choices, f"seed {self.seed}") if part)


@dataclass(frozen=True)
class Setting:
    """How a study is run.

    Attributes:
        scale: ``miniature`` or ``paper``.
        quick: a first look, with fewer steps and images.
        data: folder of the real datasets; None at miniature scale.
    """

    scale: Scale = "miniature"
    quick: bool = False
    data: Path | None = None


def cell_of(study: Study, row: Row, column: Column | None, seed: int, setting: Setting) -> Cell | None:
    """Return the cell that measures a row, in one column or (None) whatever the column; None where it is not run."""
    if row.cell is None or setting.scale in row.not_run or (column is not None and not row.runs(column, setting.scale)):
        return None
    parameters = {**(column.parameters if column is not None else {}), **row.parameters}
    return resolve(study, row.cell, parameters, seed, setting)


def cells_of(study: Study, seed: int, setting: Setting) -> list[Cell]:
    """Return the cells of all rows and columns for a seed, each once, without their parents."""
    columns: list[Column | None] = list(study.columns) or [None]
    found = (cell_of(study, row, column, seed, setting) for row in study.rows for column in columns)
    return list({cell.hash: cell for cell in found if cell is not None}.values())


def with_parents(cells: list[Cell]) -> list[Cell]:
    """Return the cells and all that they need, each once, parents first."""
    ordered: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        for parent in cell.parents:
            add(parent)
        ordered.setdefault(cell.hash, cell)

    for cell in cells:
        add(cell)
    return list(ordered.values())


def resolve(study: Study, name: str, parameters: dict[str, str], seed: int, setting: Setting) -> Cell:
    """Return a cell.

    Args:
        study: whose definitions count.
        name: of the definition.
        parameters: that win over its defaults.
        seed: of the row; a definition may have one of its own.
        setting: scale and extent.

    Raises:
        UniEmoError: unknown cell, parameter or configuration, or no ``--data`` where one is needed.
    """
    if name not in study.recipes:
        raise UniEmoError(f"{study.name}: a cell must be one of {', '.join(study.recipes)}; got {name!r}")
    recipe = study.recipes[name]
    values = {**recipe.defaults, **parameters}
    seed = seed if recipe.seed is None else recipe.seed
    filler = _Filler(study, recipe, values, seed, setting)
    commands = tuple(
        Command(step.run, step.into, tuple(filler.words(step.run, step.into, step.words))) for step in recipe.steps
    )
    parents = tuple(filler.parents.values())
    used = {key: values[key] for key in sorted(filler.used)}
    digest = _digest(commands, seed)
    return Cell(digest, name, tuple(used.items()), seed, setting.scale, setting.quick, commands, parents)


class _Filler:
    """Replaces what stands in braces; notes which parameters and which other cells were named.

    Args:
        study: whose definitions count.
        recipe: of the cell.
        values: its parameters.
        seed: its seed.
        setting: scale and extent.
    """

    def __init__(self, study: Study, recipe: Recipe, values: dict[str, str], seed: int, setting: Setting) -> None:
        self.study = study
        self.recipe = recipe
        self.values = values
        self.seed = seed
        self.setting = setting
        self.used: set[str] = set()
        self.parents: dict[str, Cell] = {}

    def words(self, run: str, into: str, texts: dict[str, str]) -> list[str]:
        """Return the words of a step behind its command."""
        text = self._at_scale(texts)
        for _ in range(_DEEP):
            text = _PLACE.sub(self._fill, text)
        added = ADDED.get(run, "").format(folder=f"{HERE}/{into}", seed=self.seed, images=self.seed * _IMAGES)
        return [*shlex.split(text), *added.split()]

    def _at_scale(self, texts: dict[str, str]) -> str:
        """Return what counts: the scale's words, those of every scale, those of a first look."""
        keys = (self.setting.scale, "words", *(("quick",) if self.setting.quick else ()))
        return " ".join(texts[key] for key in keys if key in texts)

    def _fill(self, found: re.Match[str]) -> str:
        """Return what one placeholder stands for."""
        name, argument = found.groups()
        if name == "here" or (name == "cell" and argument in self._hashes()):
            return found[0]
        if name == "cell" and argument:
            parent = resolve(self.study, argument, self.values, self.seed, self.setting)
            self.parents[argument] = parent
            return f"{{cell:{parent.hash}}}"
        if name == "seed":
            return str(self.seed)
        if name == "data":
            return self._data()
        if name not in self.values:
            raise UniEmoError(
                f"{self.study.name}: cell {self.recipe.name} must give {{{name}}} a value: add it to its defaults"
            )
        words = self._choice(name, self.values[name])
        if words:
            self.used.add(name)
        return words

    def _hashes(self) -> set[str]:
        """Return the hashes of the cells named so far."""
        return {parent.hash for parent in self.parents.values()}

    def _choice(self, name: str, value: str) -> str:
        """Return the words that a parameter's value stands for."""
        choices = self.study.parameters.get(name)
        if choices is None:
            return shlex.quote(value) if value else ""
        if value not in choices:
            raise UniEmoError(f"{self.study.name}: {name} must be one of {', '.join(choices)}; got {value!r}")
        return self._at_scale(choices[value] or {})

    def _data(self) -> str:
        """Return the folder of the real datasets."""
        if self.setting.data is None:
            raise UniEmoError("--scale paper needs the datasets: add --data with the folder that holds EmoSet, FI, …")
        return shlex.quote(str(self.setting.data.expanduser().absolute()))


def _digest(commands: tuple[Command, ...], seed: int) -> str:
    """Return the hash of commands, of what their configurations hold and of the seed; parents stand in the words."""
    contents: dict[str, Any] = {}
    for command in commands:
        for name in command.configurations():
            contents[name] = _content(name)
    plain = [[command.run, command.into, *command.words] for command in commands]
    text = json.dumps([VERSION, seed, plain, contents], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _content(name: str) -> Any:  # noqa: ANN401
    """Return what a configuration file holds, comments left out."""
    path = find_configuration(name)
    if path is None:
        raise UniEmoError(f"--config in a study must name a configuration here or a packaged one; {name!r} is neither")
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, changed: int) -> Any:  # noqa: ANN401
    """Return what a YAML file holds, read once for each of its versions."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
