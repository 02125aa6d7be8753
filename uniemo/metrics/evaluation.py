"""One pass over the files of a comparison, all metrics of all protocols, and what it takes to repeat them."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from uniemo import __version__
from uniemo.distributed import broadcast, get_rank, get_world_size
from uniemo.metrics.answers import write_answers
from uniemo.metrics.bootstrap import FOLDS, LEVEL, RESAMPLES
from uniemo.metrics.clip_score import CLIPScore
from uniemo.metrics.comparison import Comparison, Settings
from uniemo.metrics.emo_a import EmoA
from uniemo.metrics.emotion_classifiers import Classifier
from uniemo.metrics.file_contents import Contents
from uniemo.metrics.image_batches import read_batches
from uniemo.metrics.image_sets import ImageSet
from uniemo.metrics.networks import NetworkSet
from uniemo.metrics.outputs import EMOTION, Output, protocol_outputs
from uniemo.metrics.protocols import EMOGEN
from uniemo.metrics.real_statistics import StatisticsCache
from uniemo.metrics.suite import MetricSuite
from uniemo.progress_bars import progress_bar

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


def measure(
    comparison: Comparison,
    networks: NetworkSet,
    classifiers: Sequence[Classifier] = (),
    settings: Settings | None = None,
    answers: Path | None = None,
) -> dict[str, Any]:
    """Compute the metrics of a comparison; return plain values, fit for JSON.

    In a distributed run every rank calls this with the same arguments, looks at its part of the images and gets the
    same result.

    Args:
        comparison: what is compared with what.
        networks: on their device; each image goes through each (network, preparation) once.
        classifiers: of Emo-A, the first of which counts; the emogen protocol has that one alone.
        settings: those of the comparison.
        answers: Parquet file for the judged emotion of each image, by the first classifier; None writes none.

    Returns:
        The metrics of each protocol, see :meth:`uniemo.metrics.suite.MetricSuite.compute`, and everything that it takes
        to repeat them; what could not be had is None.
    """
    settings = settings or Settings()
    heads = tuple(one.output for one in classifiers)
    outputs = {
        protocol.name: protocol_outputs(
            protocol,
            fid=networks.fid.get(protocol.name),
            lpips=networks.lpips,
            clip=networks.clip,
            emotion=heads[:1] if protocol.name == EMOGEN.name else heads,
            clarity=networks.clarity,
        )
        for protocol in settings.protocols
    }
    scored = _prompt_metrics(comparison, networks)
    suite = MetricSuite(comparison.plan, outputs, settings.batch_size, scored, seed=settings.seed)
    cache = StatisticsCache(comparison.real, comparison.contents[0], comparison.emotions, settings.real_size)
    start = time.perf_counter()
    cached = settings.cache and _load_real(suite, cache)
    if not cached and suite.real_identities():
        _see_real(suite, comparison, settings)
    middle = time.perf_counter()
    part = comparison.plan.part(get_rank(), get_world_size())
    names = comparison.plan.names[part.start : part.stop]
    for images, position in _batches(comparison.generated, names, settings, "generated images"):
        suite.update(images, names[position : position + len(images)])
    results = suite.compute()
    seconds = {"real": middle - start, "generated": time.perf_counter() - middle}
    judged = suite.metrics(EmoA)
    if answers is not None and judged and get_rank() == 0:
        write_answers(answers, comparison.plan.names, comparison.emotions, *judged[0].answers)
    real = suite.real_statistics()
    if settings.cache and not cached and get_rank() == 0:
        for statistics in real:
            cache.save(statistics)
    biased = [
        f"FID of {len(comparison.generated)} images by {size} features is biased upwards; compare only with as many "
        "images, or take KID"
        for size in sorted({statistics.total.shape[1] for statistics in real})
        if len(comparison.generated) <= size  # the covariance wants more images than features
    ]
    return {
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat(),
        "seed": settings.seed,
        "real_size": settings.real_size,
        "batch_size": settings.batch_size,
        "emotions": list(comparison.emotions),
        "real": {**_images(comparison.real, comparison.contents[0]), "statistics_from_cache": cached},
        "generated": {
            **_images(comparison.generated, comparison.contents[1]),
            "space": comparison.generated.sampler or None,
        },
        "networks": _networks(outputs, results),
        "classifiers": [one.about for one in classifiers],
        "intervals": {"level": LEVEL, "bootstrap_resamples": RESAMPLES, "fid_jackknife_parts": FOLDS},
        "protocols": {
            protocol.name: {
                "settings": dataclasses.asdict(protocol),
                "preparation": _preparation(outputs[protocol.name]),
                **results[protocol.name],
                "confusion": [
                    {"classifier": one.about["name"], "rows": "intended", "columns": "chosen", "counts": counts}
                    for one, counts in zip(classifiers, results[protocol.name]["confusion"], strict=False)
                ],
            }
            for protocol in settings.protocols
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "notes": [*comparison.notes, *networks.notes(settings.protocols), *_prompt_notes(scored), *biased],
        "warnings": list(comparison.warnings),
        "versions": _versions(),
    }


def _prompt_metrics(comparison: Comparison, networks: NetworkSet) -> list[CLIPScore]:
    """Return CLIPScore where images come with prompts that ask for more than the emotion."""
    prompts = comparison.generated.prompts
    if networks.clip is None or not prompts:
        return []
    metric = CLIPScore.of_prompts(networks.clip.clip, comparison.plan.names, prompts)
    return [] if metric is None else [metric]


def _prompt_notes(metrics: Sequence[CLIPScore]) -> list[str]:
    """Say so where images take no part in CLIPScore."""
    return [
        f"CLIPScore is over the {asked} images whose prompts ask for more than the emotion"
        for metric in metrics
        if (asked := int((metric.which >= 0).sum())) < len(metric.which)
    ]


def _load_real(suite: MetricSuite, cache: StatisticsCache) -> bool:
    """Take the real images' statistics from the cache; False unless it has those of every network."""
    wanted = sorted(suite.real_identities())
    known = [cache.load(identity) for identity in wanted] if get_rank() == 0 else []
    found = [statistics for statistics in known if statistics is not None]
    if not wanted or not broadcast(len(found) == len(wanted)):
        return False
    suite.load_real(found)
    return True


def _see_real(suite: MetricSuite, comparison: Comparison, settings: Settings) -> None:
    """Show this rank's share of the real images to the suite."""
    rank, ranks = get_rank(), get_world_size()
    real = comparison.real
    labels = [comparison.emotions.index(emotion) for emotion in real.emotions][rank::ranks]
    names, numbers = real.names[rank::ranks], range(rank, len(real), ranks)
    for images, position in _batches(real, names, settings, "real images", settings.real_size):
        part = slice(position, position + len(images))
        suite.update_real(images, labels[part], names[part], numbers[part])


def _batches(
    images: ImageSet, names: Sequence[str], settings: Settings, label: str, size: int | None = None
) -> Iterator[tuple[list[Tensor], int]]:
    """Yield the decoded images of some names and the number of the first, with a bar."""
    files = images.files(names)
    start = 0
    with progress_bar(desc=label, unit="image", total=len(files), delay=1) as bar:
        for batch in read_batches(files, settings.batch_size, settings.workers, size):
            yield batch, start
            start += len(batch)
            bar.update(len(batch))


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


def _networks(outputs: Mapping[str, dict[str, Output]], results: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return what is known of each network that some metric comes from."""
    used = {key for result in results.values() for score in result["figures"].values() for key in score["networks"]}
    infos = [info for named in outputs.values() for output in named.values() for info in output.infos]
    return {info.key: dataclasses.asdict(info) for info in infos if info.key in used}


def _versions() -> dict[str, str]:
    """Return the versions of everything that a metric may depend on."""
    found = {"uniemo": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
