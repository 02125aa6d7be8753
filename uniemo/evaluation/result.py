"""The result of an evaluation as JSON: figures and everything that it takes to repeat them."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from uniemo import __version__
from uniemo.cache import atomic_write
from uniemo.errors import UniEmoError
from uniemo.evaluation.comparison import Settings
from uniemo.evaluation.contents import Contents
from uniemo.evaluation.folders import ImageSet
from uniemo.evaluation.run import Evaluation
from uniemo.metrics.bootstrap import FOLDS, LEVEL, RESAMPLES
from uniemo.metrics.feature_network import NetworkInfo
from uniemo.metrics.figures import Figure, Interval, ProtocolFigures
from uniemo.metrics.protocols import ProtocolReadings, Reading

FORMAT = "uniemo evaluation 1"
_PACKAGES = (
    "torch",
    "torchvision",
    "torchmetrics",
    "open_clip_torch",
    "lpips",
    "clean-fid",
    "numpy",
    "scipy",
    "pillow",
)


def network_key(info: NetworkInfo) -> str:
    """Return how a result refers to a network: name and hash of the weights."""
    return f"{info.name} {info.hash}"


def as_result(evaluation: Evaluation, settings: Settings, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return plain values, fit for JSON; what could not be had is null.

    Args:
        evaluation: what was found.
        settings: how.
        about: further entries, for example of the command: networks asked for, device, checkpoint.
    """
    comparison = evaluation.comparison
    infos = {
        network_key(info): info
        for figures in evaluation.figures.values()
        for figure in figures.figures.values()
        for info in figure.networks
    }
    protocols = {protocol.name: dataclasses.asdict(protocol) for protocol in settings.protocols}
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    return {
        "format": FORMAT,
        "created": now.isoformat(),
        "seed": settings.seed,
        **(about or {}),
        "real_size": settings.real_size,
        "batch_size": settings.batch_size,
        "emotions": list(comparison.emotions),
        "real": {**_images(comparison.real, comparison.contents[0]), "statistics_from_cache": evaluation.cached},
        "generated": _images(comparison.generated, comparison.contents[1]),
        "networks": {key: dataclasses.asdict(info) for key, info in infos.items()},
        "classifiers": [one.about for one in evaluation.classifiers],
        "intervals": {"level": LEVEL, "bootstrap_resamples": RESAMPLES, "fid_jackknife_parts": FOLDS},
        "protocols": {
            name: {
                "settings": protocols[name],
                "preparation": _preparation(evaluation.readings[name]),
                **_figures(figures, evaluation),
            }
            for name, figures in evaluation.figures.items()
        },
        "seconds": evaluation.seconds,
        "notes": list(evaluation.notes),
        "warnings": list(comparison.warnings),
        "versions": versions(),
    }


def _images(images: ImageSet, contents: Contents) -> dict[str, Any]:
    """Return what was compared."""
    return {
        "source": images.source,
        "layout": images.layout,
        "dataset": images.dataset,
        "split": images.split,
        "images": len(images),
        "by_emotion": images.counts(),
        "sizes": contents.size_text(),
        "transparent": int(contents.alpha.sum()),
        "other_files_ignored": images.ignored,
        "content": contents.digest(images),
    }


def _preparation(readings: ProtocolReadings) -> dict[str, str]:
    """Return how each figure's images are prepared."""

    def text(*some: Reading | None) -> str:
        return "; ".join(dict.fromkeys(one.network.describe(one.view) for one in some if one is not None))

    found = {
        "FID": text(readings.fid),
        "LPIPS": text(readings.lpips),
        "Emo-A": text(*readings.emotion),
        "Sem-C": text(*readings.clarity),
        "Sem-D": text(readings.sem_d),
    }
    return {name: line for name, line in found.items() if line}


def _figures(figures: ProtocolFigures, evaluation: Evaluation) -> dict[str, Any]:
    """Return one protocol's figures."""
    return {
        "images": figures.images,
        "real_images": figures.real_images,
        "pairs": figures.pairs,
        "figures": {name: _figure(figure) for name, figure in figures.figures.items()},
        "confusion": [
            {"classifier": one.about["name"], "rows": "intended", "columns": "chosen", "counts": matrix.tolist()}
            for one, matrix in zip(evaluation.classifiers, figures.confusion, strict=False)
        ],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        **_interval(figure),
        "networks": [network_key(info) for info in figure.networks],
        "by_emotion": {name: _interval(part) for name, part in figure.by_emotion.items()},
    }


def _interval(part: Interval) -> dict[str, float | None]:
    values = {"value": part.value, "low": part.low, "high": part.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def versions() -> dict[str, str]:
    """Return the versions of everything that a figure may depend on."""
    found = {"uniemo": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result as strict JSON, whole or not at all."""
    with atomic_write(path) as temporary:
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_result(path: str | Path) -> dict[str, Any]:
    """Read what :func:`write_result` wrote.

    Raises:
        UniEmoError: no such file, or another one.
    """
    path = Path(path).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UniEmoError(f"result must be a file of uniemo evaluate; {path} cannot be read ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UniEmoError(f"result must be a file of uniemo evaluate; {path} is another: evaluate again")
    return content
