"""Callbacks of training and test; what they ask of a module stands in ``protocol``."""

from uniemo.callbacks.attention_maps import AttentionMaps
from uniemo.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from uniemo.callbacks.environment import Environment
from uniemo.callbacks.explicit_feedback import ExplicitFeedback
from uniemo.callbacks.generation_metrics import GenerationMetrics
from uniemo.callbacks.predictions import PredictionWriter
from uniemo.callbacks.progress import LossProgressBar
from uniemo.callbacks.summary import Summary

__all__ = [
    "AttentionMaps",
    "BestCheckpoint",
    "Environment",
    "ExplicitFeedback",
    "GenerationMetrics",
    "LastCheckpoint",
    "LossProgressBar",
    "PredictionWriter",
    "Summary",
]
