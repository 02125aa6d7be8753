"""Read study files into :class:`~uniemo.studies.study.Study`, with a one-line error where one is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uniemo.configurations import find_configuration, packaged_configurations
from uniemo.errors import UniEmoError
from uniemo.studies.study import SCALES, Check, Column, Recipe, Row, Step, Study
from uniemo.text_files import read_yaml

_FOLDER = "studies"  # of configs/
_SHARED = "common"  # not a study
_OLD_KEYS = {"figures": "metrics", "figure": "metric", "words": "args"}  # names in files of before


def known_studies() -> list[str]:
    """Return the names of all packaged studies, tables first, each kind in the order of its numbers."""

    def order(name: str) -> tuple[bool, str, int]:
        kind = name.rstrip("0123456789")
        return kind != "table", kind, int(name[len(kind) :] or 0)

    names = [Path(file).stem for file in packaged_configurations() if file.startswith(f"{_FOLDER}/")]
    return sorted((name for name in names if name != _SHARED), key=order)


def read_study(name: str) -> Study:
    """Read a packaged study, such as ``table4``, or one in a YAML file.

    Raises:
        UniEmoError: no such study, or one that is not written as docs/studies.md says.
    """
    path = find_configuration(name if name.endswith((".yaml", ".yml")) else f"{_FOLDER}/{name}.yaml")
    if path is None:
        raise UniEmoError(f"a study must be one of {', '.join(known_studies())}, all, or a YAML file; got {name!r}")
    content = _load(path)
    shared = _load(_beside(path, content["use"])) if "use" in content else {}
    try:
        study = _study(path.stem, content, shared)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise UniEmoError(
            f"a study must be written as docs/studies.md says; {path} is not ({what}): mend it"
        ) from error
    _check(study)
    return study


def with_packaged(studies: Sequence[Study]) -> list[Study]:
    """Return all packaged studies and these, each once: the claims of all are on one page."""
    given = {study.name: study for study in studies}
    return list(({name: given.get(name) or read_study(name) for name in known_studies()} | given).values())


def _beside(path: Path, name: str) -> Path:
    """Return the file that ``use:`` names: beside the study, else among the packaged ones."""
    own = path.parent / name
    found = own if own.is_file() else find_configuration(f"{_FOLDER}/{name}")
    if found is None:
        raise UniEmoError(f"use must name a file beside {path} or a packaged one; got {name!r}")
    return found


def _load(path: Path) -> dict[str, Any]:
    """Read a YAML mapping."""
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise UniEmoError(f"a study must be a YAML file; {path} is not ({error}): mend it") from error
    if not isinstance(content, dict):
        raise UniEmoError(f"a study must hold title, claim, metrics and rows; {path} holds none: mend it")
    return _renamed(content)


def _study(name: str, content: dict[str, Any], shared: dict[str, Any]) -> Study:
    """Build a study from what its file and the shared one hold."""
    cells = {**shared.get("cells", {}), **content.get("cells", {})}
    parameters = {**shared.get("parameters", {}), **content.get("parameters", {})}
    return Study(
        name=name,
        title=content["title"],
        claim=content["claim"],
        seeds=int(content.get("seeds", 1)),
        columns=tuple(_column(key, values) for key, values in (content.get("metrics") or {}).items()),
        rows=tuple(_rows(content["rows"])),
        checks=tuple(
            Check(check["claim"], check["better"], _names(check["than"]), _names(check["in"]))
            for check in content.get("checks", ())
        ),
        recipes={key: _recipe(key, values) for key, values in cells.items()},
        parameters={
            key: {choice: _texts(_renamed(args or {})) for choice, args in choices.items()}
            for key, choices in parameters.items()
        },
        plot=_texts(_renamed(content.get("plot", {}))),
        picture=content.get("picture", ""),
        remarks=content.get("remarks", ""),
    )


def _column(name: str, values: dict[str, Any]) -> Column:
    """Read a column."""
    others = {key: value for key, value in values.items() if key != "with"}
    return Column(name, parameters=_texts(values.get("with", {})), **others)


def _rows(items: list[dict[str, Any]]) -> list[Row]:
    """Read the rows, each under the last heading."""
    rows, group = [], ""
    for item in items:
        if set(item) == {"group"}:
            group = item["group"]
            continue
        values = dict(item)
        reason = values.pop("not_run", {})
        reasons = dict.fromkeys(SCALES, reason) if isinstance(reason, str) else reason
        parameters = _texts(values.pop("with", {}))
        only = _names(values.pop("only", ()))
        rows.append(Row(group=group, not_run=reasons, parameters=parameters, only=only, **values))
    return rows


def _recipe(name: str, values: dict[str, Any]) -> Recipe:
    """Read a cell's definition."""
    steps = []
    for item in values["steps"]:
        args = {key: value for key, value in item.items() if key not in ("run", "into", "scale", "when")}
        into = item.get("into", item["run"].split()[-1])
        steps.append(Step(item["run"], into, _texts(_renamed(args)), item.get("scale"), _texts(item.get("when", {}))))
    return Recipe(name, tuple(steps), _texts(values.get("defaults", {})), values.get("seed"))


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping under today's key names."""
    return {_OLD_KEYS.get(key, key): value for key, value in values.items()}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as text."""
    return {key: str(value) for key, value in values.items()}


def _names(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Return one name or several as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def _check(study: Study) -> None:
    """Raise where a study names what it does not have."""
    rows, columns = [row.name for row in study.rows], [column.name for column in study.columns]
    ranking = [column.name for column in study.columns if column.best != "none"]
    named = [(f"cell of row {row.name}", row.cell, list(study.recipes)) for row in study.rows if row.cell]
    for row in study.rows:
        named += [(f"paper and only of row {row.name}", key, columns) for key in (*row.paper, *row.only)]
    for check in study.checks:
        named += [("better and than of a check", name, rows) for name in (check.better, *check.than)]
        named += [("in of a check", name, ranking) for name in check.columns]
    for step in (step for recipe in study.recipes.values() for step in recipe.steps):
        named += [(f"args of {step.run}", key, [*SCALES, "args", "quick"]) for key in step.args]
        named += [(f"scale of {step.run}", step.scale, list(SCALES))] if step.scale else []
    named += [
        (f"scale of metric {column.name}", column.scale, list(SCALES)) for column in study.columns if column.scale
    ]
    for what, name, known in named:
        if name not in known:
            raise UniEmoError(f"{study.name}: {what} must be one of {', '.join(filter(None, known))}; got {name!r}")
    if len(set(rows)) < len(rows):
        twice = next(name for name in rows if rows.count(name) > 1)
        raise UniEmoError(f"{study.name}: rows must differ in label and note; {twice!r} stands there twice")
