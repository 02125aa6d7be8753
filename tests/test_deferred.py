"""Packages whose ``__init__`` waits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from uniemo import deferred


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package in the table, whose ``__init__`` imports its own modules as torchmetrics' does."""
    name = "slow_to_import"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(f"from {name}.part import part\nfrom {name} import other\nready = True\n")
    (package / "part.py").write_text("part = 'part'\n")
    (package / "other.py").write_text(f"from {name}.part import part as borrowed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(deferred._NEEDED, name, {"part": f"{name}.part"})
    monkeypatch.setattr(sys, "meta_path", [deferred._Finder(), *sys.meta_path])
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_init_waits_for_a_name_of_its_own(slow: str) -> None:
    package = import_module(slow)
    assert import_module(f"{slow}.other").borrowed == "part"
    assert package.__path__
    assert not hasattr(package, "__version__")
    assert "ready" not in vars(package)
    assert package.ready
    assert package.other is sys.modules[f"{slow}.other"]


def test_needed_name_is_there_at_once(slow: str) -> None:
    package = import_module(slow)
    assert package.part == "part"
    assert "ready" not in vars(package)


def test_name_that_is_nowhere_is_missing_as_ever(slow: str) -> None:
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec(f"from {slow} import nothing")


def test_finders_are_added_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    deferred.defer_packages()
    before = len(sys.meta_path)
    deferred.defer_packages()
    assert len(sys.meta_path) == before
