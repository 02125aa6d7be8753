"""All five figures of generated images in one pass over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionSample
from uniemo.errors import UniEmoError
from uniemo.metrics.emotion_accuracy import emotion_scores
from uniemo.metrics.emotion_classifier import EmotionClassifier, View, view_of
from uniemo.metrics.fid import frechet_distance, gaussian
from uniemo.metrics.networks import EvaluationNetworks
from uniemo.metrics.pairs import mean_over_emotions, pair_distances
from uniemo.metrics.semantic_clarity import ClarityReader
from uniemo.vocabulary import Vocabulary

FIGURES: tuple[str, ...] = ("FID", "LPIPS", "Emo-A", "Emo-A probability", "Sem-C", "Sem-D")


@dataclass(frozen=True)
class RealStatistics:
    """Feature statistics of real images, for FID.

    Attributes:
        network: name of the network that saw them.
        mean: (E,) float64 over all images.
        covariance: (E, E) float64.
        count: number of images.
        by_emotion: the same three for each class index with at least two images.
    """

    network: str
    mean: Tensor
    covariance: Tensor
    count: int
    by_emotion: dict[int, tuple[Tensor, Tensor, int]]


def _sums(features: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return the sums that :func:`gaussian` takes."""
    features = features.double().cpu()
    return features.sum(dim=0), features.T @ features, len(features)


def feature_statistics(features: Tensor, emotion: Tensor, network: str) -> RealStatistics:
    """Return statistics of features (N, E) with labels (N,); UniEmoError with fewer than two images."""
    mean, covariance = gaussian(*_sums(features), what="real")
    by_emotion = {}
    for label in emotion.unique().tolist():
        part = features[emotion == label]
        if len(part) >= 2:
            by_emotion[int(label)] = (*gaussian(*_sums(part)), len(part))
    return RealStatistics(network, mean, covariance, len(features), by_emotion)


@torch.no_grad()
def real_statistics(
    networks: EvaluationNetworks, loader: DataLoader[EmotionSample], view: View = "target"
) -> RealStatistics:
    """Return the statistics of a loader's images.

    Args:
        networks: on their device.
        loader: real images, for example the test split's.
        view: ``target`` compares at the resolution of the generator, ``image`` at the encoder's.
    """
    features, emotion = [], []
    for batch in loader:
        features.append(networks.clip.features(view_of(batch, view)).cpu())
        emotion.append(batch.emotion)
    return feature_statistics(torch.cat(features), torch.cat(emotion), networks.name)


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


@torch.no_grad()
def evaluate_images(
    networks: EvaluationNetworks,
    classifier: EmotionClassifier,
    images: Mapping[str, Tensor],
    real: RealStatistics | None,
    vocabulary: Vocabulary,
    pairs: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, float]:
    """Return the figures of generated images.

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
    few = [name for name, part in images.items() if len(part) < 2]
    if few or not images:
        raise UniEmoError(
            f"generation figures need at least 2 images of each emotion; got fewer of {', '.join(few) or 'all'}: "
            "generate more"
        )
    if real is not None and real.network != networks.name:
        raise UniEmoError(
            f"FID needs real statistics of the same network, {networks.name}; got those of {real.network}: "
            "compute them again"
        )
    present = {vocabulary.emotion_index(name): part for name, part in images.items()}
    device = networks.clip.mean.device
    features, blocks = [], []
    for part in present.values():
        for chunk in part.split(batch_size):
            output = networks(chunk.to(device))
            features.append(output.features)
            blocks.append(output.blocks.half())
    feature = torch.cat(features)  # (N, E)
    emotion = torch.cat([torch.full((len(part),), label) for label, part in present.items()]).to(device)  # (N,)

    values: dict[str, Tensor] = {}  # (N,) per image
    hit, probability = emotion_scores(classifier.probabilities(feature), emotion)
    values["Emo-A"], values["Emo-A probability"] = hit.double(), probability.double()
    if vocabulary.scenes or vocabulary.objects:
        values["Sem-C"] = ClarityReader(networks.clip, vocabulary)(feature).double()
    by_emotion: dict[str, dict[int, float]] = {
        name: {label: float(value[emotion == label].mean()) for label in present} for name, value in values.items()
    }
    figures = {name: float(value.mean()) for name, value in values.items()}

    ids, classes = torch.arange(len(feature)), len(vocabulary.emotions)
    distances = {
        "LPIPS": pair_distances(torch.cat(blocks), emotion, ids, classes, pairs, seed),
        "Sem-D": pair_distances(feature, emotion, ids, classes, pairs, seed) / feature.shape[1],
    }
    for name, distance in distances.items():
        figures[name] = float(mean_over_emotions(distance, name))
        by_emotion[name] = {label: float(distance[label]) for label in present}

    if real is not None:
        figures["FID"] = float(frechet_distance(real.mean, real.covariance, *gaussian(*_sums(feature))))
        by_emotion["FID"] = {
            label: float(frechet_distance(*real.by_emotion[label][:2], *gaussian(*_sums(feature[emotion == label]))))
            for label in present
            if label in real.by_emotion
        }
    result = {f"{name}[{networks.name}]": figures[name] for name in FIGURES if name in figures}
    for name in FIGURES:
        for label, figure in by_emotion.get(name, {}).items():
            result[f"{name}[{networks.name}]/{vocabulary.emotions[label]}"] = figure
    return result
