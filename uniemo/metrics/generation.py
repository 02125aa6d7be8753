"""All five figures of images in memory, seen through one small CLIP; the engine is the evaluator's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionSample
from uniemo.metrics.clip_networks import MiniatureNetwork
from uniemo.metrics.emotion_classifier import EmotionClassifier, View, view_of
from uniemo.metrics.evaluator import Evaluator
from uniemo.metrics.fid import FeatureStatistics
from uniemo.metrics.networks import EvaluationNetworks
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
    """Return the statistics of a loader's images.

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
    for batch in loader:
        statistics.update(clip.features(view_of(batch, view)), batch.emotion)
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
    """Return the figures of generated images, by the strict protocol.

    Args:
        networks: on their device; each image goes through them once.
        classifier: Emo-A on the networks' image features.
        images: (n, 3, H, W) in [0, 1] for each intended emotion, at least two each.
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
    names = {
        vocabulary.emotions[vocabulary.emotion_index(name)]: [f"{name}/{row:06d}" for row in range(len(part))]
        for name, part in images.items()
    }
    plan = plan_evaluation(names, vocabulary.emotions, [protocol], seed)
    evaluator = Evaluator(plan, {"strict": miniature_readings(networks, classifier, vocabulary, protocol)}, batch_size)
    if real is not None:
        evaluator.use_real("strict", real)
    for start in range(0, len(plan.names), batch_size):
        part = plan.names[start : start + batch_size]
        rows = [name.rpartition("/") for name in part]
        evaluator.add([images[emotion][int(row)] for emotion, _, row in rows], part)
    figures = evaluator.result(intervals=False)["strict"].figures
    result = {f"{name}[{networks.name}]": figures[name].value for name in FIGURES if name in figures}
    for name in FIGURES:
        if name in figures:
            for emotion, part_figure in figures[name].by_emotion.items():
                result[f"{name}[{networks.name}]/{emotion}"] = part_figure.value
    return result
