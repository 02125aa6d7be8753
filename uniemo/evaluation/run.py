"""One pass over the images of a comparison, all figures of all protocols."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from tqdm import tqdm

from uniemo.distributed import broadcast, get_rank, get_world_size
from uniemo.evaluation.cache import StatisticsCache
from uniemo.evaluation.classifiers import Classifier
from uniemo.evaluation.comparison import Comparison, Settings, prepare
from uniemo.evaluation.folders import ImageSet
from uniemo.evaluation.networks import NetworkSet
from uniemo.metrics.evaluator import Evaluator
from uniemo.metrics.figures import ProtocolFigures
from uniemo.metrics.loading import read_batches
from uniemo.metrics.protocols import EMOGEN, ProtocolReadings


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        comparison: what was compared with what.
        readings: what the figures read, by protocol.
        classifiers: of Emo-A.
        figures: by protocol.
        cached: whether the real set's statistics came from the cache.
        seconds: spent on real and on generated images.
        notes: what a reader of the figures should know, the comparison's notes included.
    """

    comparison: Comparison
    readings: dict[str, ProtocolReadings]
    classifiers: tuple[Classifier, ...]
    figures: dict[str, ProtocolFigures]
    cached: bool
    seconds: dict[str, float]
    notes: tuple[str, ...]


def evaluate(
    real: ImageSet,
    generated: ImageSet,
    emotions: Sequence[str],
    networks: NetworkSet,
    classifiers: Sequence[Classifier] = (),
    settings: Settings | None = None,
) -> Evaluation:
    """Measure generated images; see :func:`prepare` and :func:`measure`, which this is in one."""
    settings = settings or Settings()
    return measure(prepare(real, generated, emotions, settings), networks, classifiers, settings)


def measure(
    comparison: Comparison,
    networks: NetworkSet,
    classifiers: Sequence[Classifier] = (),
    settings: Settings | None = None,
) -> Evaluation:
    """Take the figures of a comparison.

    In a distributed run every rank calls this with the same arguments, looks at its part of the images and gets the
    same figures.

    Args:
        comparison: what is compared with what.
        networks: on their device; each image goes through each (network, preparation) once.
        classifiers: of Emo-A, the first of which counts; the emogen protocol has that one alone.
        settings: those of the comparison.

    Raises:
        UniEmoError: a file that cannot be decoded, or an output that is not finite; the image is named.
    """
    settings = settings or Settings()
    heads = tuple(one.reading for one in classifiers)
    readings = {
        protocol.name: networks.readings(protocol, heads[:1] if protocol.name == EMOGEN.name else heads)
        for protocol in settings.protocols
    }
    evaluator = Evaluator(comparison.plan, readings, settings.batch_size)
    start = time.perf_counter()
    cached = _take_real(evaluator, comparison, readings, settings)
    middle = time.perf_counter()
    rank, ranks = get_rank(), get_world_size()
    part = comparison.plan.part(rank, ranks)
    names = comparison.plan.names[part.start : part.stop]
    position = 0
    for images in _batches(comparison.generated, names, settings, "generated images"):
        evaluator.add(images, names[position : position + len(images)])
        position += len(images)
    figures = evaluator.result(settings.seed)
    seconds = {"real": middle - start, "generated": time.perf_counter() - middle}
    notes = (
        *comparison.notes,
        *networks.notes(settings.protocols),
        *_few_for_fid(evaluator, len(comparison.generated)),
    )
    return Evaluation(
        comparison,
        readings,
        tuple(classifiers),
        figures,
        cached,
        {name: round(value, 2) for name, value in seconds.items()},
        notes,
    )


def _take_real(
    evaluator: Evaluator, comparison: Comparison, readings: dict[str, ProtocolReadings], settings: Settings
) -> bool:
    """Hand over the real images, or their statistics where the cache has those of every network: True then."""
    wanted = {name: reading.fid.identity for name, reading in readings.items() if reading.fid is not None}
    if not wanted:
        return False
    real, emotions = comparison.real, comparison.emotions
    cache = StatisticsCache(real, comparison.contents[0], emotions, settings.real_size)
    rank, ranks = get_rank(), get_world_size()
    known = {}
    if settings.cache and rank == 0:
        known = {identity: statistics for identity in set(wanted.values()) if (statistics := cache.load(identity))}
    known = broadcast(known, 0)
    if set(wanted.values()) <= known.keys():
        for name, identity in wanted.items():
            evaluator.use_real(name, known[identity])
        return True
    labels = [emotions.index(emotion) for emotion in real.emotions][rank::ranks]
    names = real.names[rank::ranks]
    position = 0
    for images in _batches(real, names, settings, "real images", settings.real_size):
        part = slice(position, position + len(images))
        evaluator.add_real(images, labels[part], names[part])
        position += len(images)
    for statistics in {id(one): one for one in evaluator.real_statistics().values()}.values():
        if settings.cache and rank == 0:
            cache.save(statistics)
    return False


def _batches(
    images: ImageSet, names: Sequence[str], settings: Settings, label: str, size: int | None = None
) -> Iterator[list[Tensor]]:
    """Yield the decoded images of some names, with a bar."""
    files = images.files(names)
    with tqdm(total=len(files), desc=label, unit="image", disable=not settings.progress, delay=1) as bar:
        for batch in read_batches(files, settings.batch_size, settings.workers, size):
            yield batch
            bar.update(len(batch))


def _few_for_fid(evaluator: Evaluator, count: int) -> list[str]:
    """Say where FID is known to be biased: its covariance wants more images than features."""
    dims = {statistics.total.shape[1] for statistics in evaluator.real_statistics().values()}
    return [
        f"FID of {count} images by {size} features is biased upwards; compare only with as many images"
        for size in sorted(dims)
        if count <= size
    ]
