"""One pass over the files of a comparison, all metrics of all protocols."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from tqdm import tqdm

from uniemo.distributed import broadcast, get_rank, get_world_size
from uniemo.metrics.comparison import Comparison, Settings
from uniemo.metrics.emotion_classifiers import Classifier
from uniemo.metrics.image_batches import read_batches
from uniemo.metrics.image_sets import ImageSet
from uniemo.metrics.network_sets import NetworkSet
from uniemo.metrics.outputs import Output
from uniemo.metrics.protocols import EMOGEN
from uniemo.metrics.real_statistics import StatisticsCache
from uniemo.metrics.scores import ProtocolResult
from uniemo.metrics.suite import MetricSuite


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        comparison: what was compared with what.
        settings: how.
        outputs: network outputs by protocol and name.
        classifiers: of Emo-A.
        results: by protocol.
        cached: whether the real set's statistics came from the cache.
        seconds: spent on real and on generated images.
        notes: what a reader of the result should know, the comparison's notes included.
    """

    comparison: Comparison
    settings: Settings
    outputs: dict[str, dict[str, Output]]
    classifiers: tuple[Classifier, ...]
    results: dict[str, ProtocolResult]
    cached: bool
    seconds: dict[str, float]
    notes: tuple[str, ...]


def measure(
    comparison: Comparison,
    networks: NetworkSet,
    classifiers: Sequence[Classifier] = (),
    settings: Settings | None = None,
) -> Evaluation:
    """Compute the metrics of a comparison.

    In a distributed run every rank calls this with the same arguments, looks at its part of the images and gets the
    same result.

    Args:
        comparison: what is compared with what.
        networks: on their device; each image goes through each (network, preparation) once.
        classifiers: of Emo-A, the first of which counts; the emogen protocol has that one alone.
        settings: those of the comparison.

    Raises:
        UniEmoError: a file that cannot be decoded, or an output that is not finite; the image is named.
    """
    settings = settings or Settings()
    heads = tuple(one.output for one in classifiers)
    outputs = {
        protocol.name: networks.outputs(protocol, heads[:1] if protocol.name == EMOGEN.name else heads)
        for protocol in settings.protocols
    }
    suite = MetricSuite(comparison.plan, outputs, settings.batch_size, seed=settings.seed)
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
    real = suite.real_statistics()
    if settings.cache and not cached and get_rank() == 0:
        for statistics in real:
            cache.save(statistics)
    biased = [
        f"FID of {len(comparison.generated)} images by {size} features is biased upwards; compare only with as many "
        "images"
        for size in sorted({statistics.total.shape[1] for statistics in real})
        if len(comparison.generated) <= size  # the covariance wants more images than features
    ]
    return Evaluation(
        comparison,
        settings,
        outputs,
        tuple(classifiers),
        results,
        cached,
        {name: round(value, 2) for name, value in seconds.items()},
        (*comparison.notes, *networks.notes(settings.protocols), *biased),
    )


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
    names = real.names[rank::ranks]
    for images, position in _batches(real, names, settings, "real images", settings.real_size):
        part = slice(position, position + len(images))
        suite.update_real(images, labels[part], names[part])


def _batches(
    images: ImageSet, names: Sequence[str], settings: Settings, label: str, size: int | None = None
) -> Iterator[tuple[list[Tensor], int]]:
    """Yield the decoded images of some names and the number of the first, with a bar."""
    files = images.files(names)
    start = 0
    with tqdm(total=len(files), desc=label, unit="image", disable=not settings.progress, delay=1) as bar:
        for batch in read_batches(files, settings.batch_size, settings.workers, size):
            yield batch, start
            start += len(batch)
            bar.update(len(batch))
