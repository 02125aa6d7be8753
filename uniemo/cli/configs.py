"""Finding configuration files: the working directory first, then the package."""

from __future__ import annotations

from pathlib import Path

import yaml

from uniemo.cli.parsing import near
from uniemo.configurations import CONFIGURATIONS, find_configuration, packaged_configurations
from uniemo.errors import UniEmoError

PACKAGED = CONFIGURATIONS


def packaged() -> list[str]:
    """Return the names of the configurations that the package ships, recipes before overlays; studies are none."""
    names = (name for name in packaged_configurations() if not name.startswith("studies/"))
    return sorted(names, key=lambda name: (name.count("/"), name))


def find_config(name: str) -> Path:
    """Return the file that ``--config name`` means.

    Args:
        name: a path, relative to the working directory or to the packaged configurations.

    Raises:
        UniEmoError: there is no such file in either place.
    """
    path = find_configuration(name)
    if path is not None:
        return path
    known = packaged()
    raise UniEmoError(
        f"--config must name a file here or a packaged configuration ({', '.join(known)}); {name!r} is neither"
        f"{near(name, known)}"
    )


def check_yaml(path: Path) -> Path:
    """Return a configuration file that is YAML with named sections.

    Raises:
        UniEmoError: it is not.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UniEmoError(f"--config must be a YAML file; {path} is not ({error}): mend it") from error
    if content is not None and not isinstance(content, dict):
        raise UniEmoError(f"--config must hold sections such as model, data, trainer; {path} holds none: mend it")
    return path
