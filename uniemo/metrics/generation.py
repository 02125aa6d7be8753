"""All five figures of images as they come, seen through one small CLIP; the engine is the evaluator's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionSample
from uniemo.data.dataset import EmotionDataset
from uniemo.data.shares import numbered_share
from uniemo.data.skipped import collate_readable
from uniemo.distributed import even_batches, get_rank, get_world_size, sum_over_ranks
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.metrics.clip_networks import EvaluationNetworks, MiniatureNetwork
from uniemo.metrics.evaluator import Evaluator
from uniemo.metrics.feature_cache import View, view_of
from uniemo.metrics.fid import FeatureStatistics
from uniemo.metrics.pairs import plan_evaluation
from uniemo.metrics.protocols import (
    Protocol,
    ProtocolReadings,
    Reading,
    clarity_readings,
    emotion_reading,
    protocol_readings,
)
from uniemo.metrics.semantic_clarity import ClarityReader
from uniemo.vocabulary import Vocabulary

FIGURES: tuple[str, ...] = ("FID", "LPIPS", "Emo-A", "Emo-A probability", "Sem-C", "Sem-D")


def miniature_readings(
    networks: EvaluationNetworks, classifier: EmotionClassifier, vocabulary: Vocabulary, protocol: Protocol
) -> ProtocolReadings:
    """Return what the figures read where one small CLIP stands for all networks.

    Args:
        networks: the CLIP, on its device.
        classifier: Emo-A on its image features.
        vocabulary: scene and object names for Sem-C; without any there is no Sem-C.
        protocol: whose figures.
    """
    network = MiniatureNetwork(networks.clip)
    named = vocabulary.scenes or vocabulary.objects
    reader = ClarityReader(networks.clip, vocabulary) if named else None
    return protocol_readings(
        protocol,
        fid=network,
        lpips=network,
        clip=network,
        emotion=(emotion_reading(network, classifier.probabilities),),
        clarity=clarity_readings(clip=network, reader=reader.probabilities) if reader else (),
    )


@torch.no_grad()
def real_statistics(
    networks: EvaluationNetworks, loader: DataLoader[EmotionSample], vocabulary: Vocabulary, view: View = "target"
) -> FeatureStatistics:
    """Return the statistics of a loader's images; each rank looks at its share, all get the same.

    Args:
        networks: on their device.
        loader: real images, for example the test split's.
        vocabulary: whose emotions number the loader's labels.
        view: ``target`` compares at the resolution of the generator, ``image`` at the encoder's.
    """
    clip = networks.clip
    statistics = FeatureStatistics(
        len(vocabulary.emotions), clip.embed_dim, Reading(MiniatureNetwork(clip), "strict", "features").identity
    )
    for _, batch in numbered_share(loader):
        statistics.update(clip.features(view_of(batch, view)), batch.emotion)
    sum_over_ranks(list(statistics.state().values()))
    return statistics


def images_by_emotion(
    loader: DataLoader[EmotionSample], vocabulary: Vocabulary, view: View = "target"
) -> dict[str, Tensor]:
    """Return a loader's images by emotion name, (n, 3, H, W) in [0, 1], so that real images get figures too."""
    images, emotion = [], []
    for batch in loader:
        images.append(view_of(batch, view))
        emotion.append(batch.emotion)
    every, labels = torch.cat(images), torch.cat(emotion)
    parts = {name: every[labels == label] for label, name in enumerate(vocabulary.emotions)}
    return {name: part for name, part in parts.items() if len(part)}


def evaluate_images(
    networks: EvaluationNetworks,
    classifier: EmotionClassifier,
    images: Mapping[str, Tensor],
    real: FeatureStatistics | None,
    vocabulary: Vocabulary,
    pairs: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, float]:
    """Return the figures of generated images in memory, by the strict protocol; see :func:`evaluate_stream`.

    Args:
        networks: on their device; each image goes through them once.
        classifier: Emo-A on the networks' image features.
        images: (n, 3, H, W) in [0, 1] for each intended emotion, at least two each; all of them on every rank.
        real: statistics for FID; None leaves FID out.
        vocabulary: emotion, scene and object names; without scenes and objects Sem-C is left out.
        pairs: pairs of each emotion for LPIPS and Sem-D.
        seed: of the pairs.
        batch_size: images at a time.
    """

    def images_of(batches: Sequence[Sequence[str]]) -> Iterable[list[Tensor]]:
        for names in batches:
            parts = [name.rpartition("/") for name in names]
            yield [images[emotion][int(row)] for emotion, _, row in parts]

    names = {emotion: [f"{emotion}/{row:06d}" for row in range(len(part))] for emotion, part in images.items()}
    return evaluate_stream(networks, classifier, names, images_of, real, vocabulary, pairs, seed, batch_size)


@torch.no_grad()
def evaluate_loader(
    networks: EvaluationNetworks,
    classifier: EmotionClassifier,
    loader: DataLoader[EmotionSample],
    vocabulary: Vocabulary,
    view: View = "target",
) -> dict[str, float]:
    """Return the figures of real images, FID aside; emotions with fewer than two images are left out.

    Args:
        networks: as for :func:`evaluate_stream`.
        classifier: Emo-A on the networks' image features.
        loader: images of an :class:`uniemo.data.dataset.EmotionDataset`; it is asked for its dataset, its batch size
            and its workers, not for batches.
        vocabulary: whose emotions number the labels; with scene and object names for Sem-C.
        view: the resolution to look at, see :func:`real_statistics`.

    Returns:
        As :func:`evaluate_stream`; empty where no emotion has two images.
    """
    dataset: EmotionDataset = loader.dataset  # type: ignore[assignment]
    records, skips = dataset.records, dataset.on_error == "skip"
    names: defaultdict[str, list[str]] = defaultdict(list)
    for row, (file, label) in enumerate(zip(records.files, records.emotion.tolist(), strict=True)):
        if not (skips and records.root / file in dataset.skipped):
            names[vocabulary.emotions[label]].append(f"{row:08d}")
    several = {emotion: rows for emotion, rows in names.items() if len(rows) > 1}
    if not several:
        return {}

    def images_of(batches: Sequence[Sequence[str]]) -> Iterable[Tensor]:
        rows = [[int(name) for name in part] for part in batches]
        runner = DataLoader(dataset, batch_sampler=rows, num_workers=loader.num_workers, collate_fn=collate_readable)
        return (view_of(batch, view) for batch in runner)

    size = loader.batch_size or 1
    return evaluate_stream(networks, classifier, several, images_of, None, vocabulary, batch_size=size)


@torch.no_grad()
def evaluate_stream(
    networks: EvaluationNetworks,
    classifier: EmotionClassifier,
    names_by_emotion: Mapping[str, Sequence[str]],
    images_of: Callable[[Sequence[Sequence[str]]], Iterable[Tensor | Sequence[Tensor]]],
    real: FeatureStatistics | None,
    vocabulary: Vocabulary,
    pairs: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, float]:
    """Return the figures of images by the strict protocol, of which only one batch is there at a time.

    Each rank looks at its share, and all get the same figures.

    Args:
        networks: on their device; each image goes through them once.
        classifier: Emo-A on the networks' image features.
        names_by_emotion: ids of the images of each intended emotion, at least two each.
        images_of: takes this rank's batches of ids and yields the images of each, (b, 3, H, W) in [0, 1].
        real: statistics for FID; None leaves FID out.
        vocabulary: emotion, scene and object names; without scenes and objects Sem-C is left out.
        pairs: pairs of each emotion for LPIPS and Sem-D.
        seed: of the pairs.
        batch_size: images at a time.

    Returns:
        ``"FID[network]"``, ``LPIPS``, ``Emo-A``, ``Emo-A probability``, ``Sem-C`` and ``Sem-D``, each named after the
        network, and each again for single emotions as ``"FID[network]/awe"``. LPIPS and Sem-D are means over emotions;
        the others are over all images.

    Raises:
        UniEmoError: an unknown emotion, fewer than two images of one, or real statistics of another network.
    """
    protocol = Protocol("strict", pairs=pairs)
    plan = plan_evaluation(names_by_emotion, vocabulary.emotions, [protocol], seed)
    evaluator = Evaluator(plan, {"strict": miniature_readings(networks, classifier, vocabulary, protocol)}, batch_size)
    if real is not None:
        evaluator.use_real("strict", real)
    part = plan.part(get_rank(), get_world_size())
    batches = even_batches(plan.names[part.start : part.stop], len(plan.names), batch_size)
    for names, images in zip(batches, images_of(batches), strict=True):
        evaluator.add(images, names)
    figures = evaluator.result(intervals=False)["strict"].figures
    result = {f"{name}[{networks.name}]": figures[name].value for name in FIGURES if name in figures}
    for name in FIGURES:
        if name in figures:
            for emotion, part_figure in figures[name].by_emotion.items():
                result[f"{name}[{networks.name}]/{emotion}"] = part_figure.value
    return result
