"""The configurations that the package ships, and where a configuration's name is looked for."""

from __future__ import annotations

from pathlib import Path

CONFIGURATIONS = Path(__file__).parent / "configs"


def packaged_configurations() -> list[str]:
    """Return the names of the packaged configurations, relative to their folder, sorted."""
    return sorted(path.relative_to(CONFIGURATIONS).as_posix() for path in CONFIGURATIONS.rglob("*.yaml"))


def packaged_recipes() -> list[str]:
    """Return what ``--config`` finds: recipes before overlays; studies are neither."""
    names = (name for name in packaged_configurations() if not name.startswith("studies/"))
    return sorted(names, key=lambda name: (name.count("/"), name))


def find_configuration(name: str) -> Path | None:
    """Return the file that a configuration's name means: in the working directory, else packaged; None for neither."""
    for path in (Path(name).expanduser(), CONFIGURATIONS / name):
        if path.is_file():
            return path
    return None
