"""What happens beside the training loop; callbacks know modules by what they can do (``protocol``)."""

from uniemo.callbacks.attention_maps import AttentionMaps
from uniemo.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from uniemo.callbacks.closing_table import ClosingTable
from uniemo.callbacks.environment import Environment
from uniemo.callbacks.explicit_feedback import ExplicitFeedback
from uniemo.callbacks.generation_metrics import GenerationMetrics
from uniemo.callbacks.predictions import PredictionWriter
from uniemo.callbacks.progress import LossProgressBar

__all__ = [
    "AttentionMaps",
    "BestCheckpoint",
    "ClosingTable",
    "Environment",
    "ExplicitFeedback",
    "GenerationMetrics",
    "LastCheckpoint",
    "LossProgressBar",
    "PredictionWriter",
]
