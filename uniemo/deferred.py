"""Packages whose ``__init__`` waits until one of its names is asked for.

Lightning and open_clip import all of timm, torchmetrics and torchvision for a few names, and with them SciPy and
PyTorch's compiler: a second or two before a command begins. The command line defers them; ``import uniemo`` does not.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# package: the names that it has nevertheless, and their modules
_NEEDED: dict[str, dict[str, str]] = {
    "timm": {},
    "torchmetrics": {"Metric": "torchmetrics.utilities.checks", "MetricCollection": "torchmetrics.collections"},
    "torchmetrics.functional": {},
    "torchvision.datasets": {},
    "torchvision.models": {},
    "torchvision.ops": {},
}


def defer_packages() -> None:
    """Let the packages above run their ``__init__`` late."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Package(ModuleType):
    """A package of which only modules can be had, until it is asked for a name: then its ``__init__`` runs."""

    _loader: Loader
    _logger: logging.Logger  # torchmetrics' modules ask for it

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__"):  # asked for by import and inspect
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        self._loader.exec_module(self)
        return getattr(self, name)


class _Loader(Loader):
    """Makes such packages."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        package = _Package(spec.name)
        package._loader, package._logger = self.loader, logging.getLogger(spec.name)
        return package

    def exec_module(self, module: ModuleType) -> None:
        """Leave it for later, but for the names that are needed."""
        for name, home in _NEEDED[module.__name__].items():
            setattr(module, name, getattr(import_module(home), name))


class _Finder(MetaPathFinder):
    """Finds the packages above as Python does, and gives them the loader that waits."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in _NEEDED else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec
