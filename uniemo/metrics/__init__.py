"""Figures of generated images, each named after the network that it was seen through.

Everything is imported at first use, as in :mod:`uniemo.data`: torchmetrics takes a second to load.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uniemo.metrics.bootstrap import bootstrap_interval
    from uniemo.metrics.classifier import EmotionClassifier
    from uniemo.metrics.classifier_training import ClassifierConfig, train_emotion_classifier
    from uniemo.metrics.clip_networks import EvaluationNetworks, FrozenClip
    from uniemo.metrics.emotion_accuracy import EmotionAccuracy
    from uniemo.metrics.evaluator import Evaluator
    from uniemo.metrics.fid import FeatureStatistics, FrechetDistance, frechet_distance
    from uniemo.metrics.generation import (
        evaluate_images,
        evaluate_loader,
        evaluate_stream,
        images_by_emotion,
        real_statistics,
    )
    from uniemo.metrics.lpips import PairwiseDistance
    from uniemo.metrics.pairs import plan_evaluation
    from uniemo.metrics.protocols import EMOGEN, PROTOCOLS, STRICT, Protocol
    from uniemo.metrics.semantic_clarity import ClarityReader, SemanticClarity
    from uniemo.metrics.semantic_diversity import SemanticDiversity

__all__ = [
    "EMOGEN",
    "PROTOCOLS",
    "STRICT",
    "ClarityReader",
    "ClassifierConfig",
    "EmotionAccuracy",
    "EmotionClassifier",
    "EvaluationNetworks",
    "Evaluator",
    "FeatureStatistics",
    "FrechetDistance",
    "FrozenClip",
    "PairwiseDistance",
    "Protocol",
    "SemanticClarity",
    "SemanticDiversity",
    "bootstrap_interval",
    "evaluate_images",
    "evaluate_loader",
    "evaluate_stream",
    "frechet_distance",
    "images_by_emotion",
    "plan_evaluation",
    "real_statistics",
    "train_emotion_classifier",
]

_HOMES: dict[str, tuple[str, ...]] = {
    "bootstrap": ("bootstrap_interval",),
    "emotion_accuracy": ("EmotionAccuracy",),
    "classifier": ("EmotionClassifier",),
    "classifier_training": ("ClassifierConfig", "train_emotion_classifier"),
    "clip_networks": ("EvaluationNetworks", "FrozenClip"),
    "evaluator": ("Evaluator",),
    "fid": (
        "FeatureStatistics",
        "FrechetDistance",
        "frechet_distance",
    ),
    "generation": (
        "evaluate_images",
        "evaluate_loader",
        "evaluate_stream",
        "images_by_emotion",
        "real_statistics",
    ),
    "lpips": ("PairwiseDistance",),
    "pairs": ("plan_evaluation",),
    "protocols": (
        "EMOGEN",
        "PROTOCOLS",
        "STRICT",
        "Protocol",
    ),
    "semantic_clarity": (
        "ClarityReader",
        "SemanticClarity",
    ),
    "semantic_diversity": ("SemanticDiversity",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the file of a name when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
