"""The result of an evaluation as JSON: the metrics and everything that it takes to repeat them."""

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
from uniemo.metrics.bootstrap import FOLDS, LEVEL, RESAMPLES
from uniemo.metrics.evaluation import Evaluation
from uniemo.metrics.feature_network import NetworkInfo
from uniemo.metrics.file_contents import Contents
from uniemo.metrics.image_sets import ImageSet
from uniemo.metrics.outputs import EMOTION, Output
from uniemo.metrics.scores import Estimate, ProtocolResult, Score

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


def as_result(evaluation: Evaluation, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return plain values, fit for JSON; what could not be had is null.

    Args:
        evaluation: what was found.
        about: further entries, for example of the command: networks asked for, device, checkpoint.
    """
    comparison, settings = evaluation.comparison, evaluation.settings
    infos = {
        network_key(info): info
        for result in evaluation.results.values()
        for score in result.scores.values()
        for info in score.networks
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
                "preparation": _preparation(evaluation.outputs[name]),
                **_protocol(result, [one.about["name"] for one in evaluation.classifiers]),
            }
            for name, result in evaluation.results.items()
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
        "transparent": sum(contents.alpha),
        "other_files_ignored": images.ignored,
        "content": contents.digest(images.emotions),
    }


def _preparation(outputs: dict[str, Output]) -> dict[str, str]:
    """Return how each metric's images are prepared."""
    needs = {
        "FID": ("fid",),
        "LPIPS": ("lpips",),
        "Emo-A": EMOTION,
        "Sem-C": ("objects", "scenes"),
        "Sem-D": ("sem_d",),
    }
    texts = {
        metric: dict.fromkeys(outputs[name].network.describe(outputs[name].view) for name in names if name in outputs)
        for metric, names in needs.items()
    }
    return {metric: "; ".join(text) for metric, text in texts.items() if text}


def _protocol(result: ProtocolResult, classifiers: list[str]) -> dict[str, Any]:
    """Return one protocol's metrics, under the keys that result files have had from the start."""
    return {
        "images": result.images,
        "real_images": result.real_images,
        "pairs": result.pairs,
        "figures": {name: _score(score) for name, score in result.scores.items()},
        "confusion": [
            {"classifier": name, "rows": "intended", "columns": "chosen", "counts": matrix.tolist()}
            for name, matrix in zip(classifiers, result.confusion, strict=False)
        ],
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        **_estimate(score),
        "networks": [network_key(info) for info in score.networks],
        "by_emotion": {name: _estimate(part) for name, part in score.by_emotion.items()},
    }


def _estimate(part: Estimate) -> dict[str, float | None]:
    values = {"value": part.value, "low": part.low, "high": part.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def versions() -> dict[str, str]:
    """Return the versions of everything that a metric may depend on."""
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
