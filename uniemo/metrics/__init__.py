"""Figures of generated images, each named after the network that it was seen through."""

from uniemo.metrics.emotion_accuracy import EmotionAccuracy
from uniemo.metrics.emotion_classifier import (
    ClassifierConfig,
    EmotionClassifier,
    collect_features,
    train_emotion_classifier,
)
from uniemo.metrics.fid import FrechetDistance, frechet_distance
from uniemo.metrics.generation import evaluate_images, images_by_emotion, real_statistics
from uniemo.metrics.lpips import PairwiseDistance
from uniemo.metrics.networks import BlockDistance, EvaluationNetworks, FrozenClip
from uniemo.metrics.semantic_clarity import ClarityReader, SemanticClarity
from uniemo.metrics.semantic_diversity import SemanticDiversity

__all__ = [
    "BlockDistance",
    "ClarityReader",
    "ClassifierConfig",
    "EmotionAccuracy",
    "EmotionClassifier",
    "EvaluationNetworks",
    "FrechetDistance",
    "FrozenClip",
    "PairwiseDistance",
    "SemanticClarity",
    "SemanticDiversity",
    "collect_features",
    "evaluate_images",
    "frechet_distance",
    "images_by_emotion",
    "real_statistics",
    "train_emotion_classifier",
]
