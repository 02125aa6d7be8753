"""Figures of generated images, each named after the network that it was seen through."""

from uniemo.metrics.bootstrap import bootstrap_interval
from uniemo.metrics.emotion_accuracy import EmotionAccuracy
from uniemo.metrics.emotion_classifier import (
    ClassifierConfig,
    EmotionClassifier,
    collect_features,
    train_emotion_classifier,
)
from uniemo.metrics.evaluator import Evaluator
from uniemo.metrics.fid import FeatureStatistics, FrechetDistance, frechet_distance
from uniemo.metrics.generation import evaluate_images, images_by_emotion, real_statistics
from uniemo.metrics.lpips import PairwiseDistance
from uniemo.metrics.networks import BlockDistance, EvaluationNetworks, FrozenClip
from uniemo.metrics.pairs import plan_evaluation
from uniemo.metrics.protocols import EMOGEN, PROTOCOLS, STRICT, Protocol
from uniemo.metrics.semantic_clarity import ClarityReader, SemanticClarity
from uniemo.metrics.semantic_diversity import SemanticDiversity

__all__ = [
    "EMOGEN",
    "PROTOCOLS",
    "STRICT",
    "BlockDistance",
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
    "collect_features",
    "evaluate_images",
    "frechet_distance",
    "images_by_emotion",
    "plan_evaluation",
    "real_statistics",
    "train_emotion_classifier",
]
