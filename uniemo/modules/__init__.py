"""The three stages of training as LightningModules."""

from uniemo.modules.base import UniEmoModule
from uniemo.modules.config import ModelConfig
from uniemo.modules.feedback import FeedbackModule
from uniemo.modules.joint import JointModule
from uniemo.modules.optim import OptimizerConfig
from uniemo.modules.terms import LossConfig
from uniemo.modules.understanding import UnderstandingModule

__all__ = [
    "FeedbackModule",
    "JointModule",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "UnderstandingModule",
    "UniEmoModule",
]
