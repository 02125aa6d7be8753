"""The three stages of training as LightningModules, and what every trained method shares."""

from uniemo.modules.base import UniEmoModule
from uniemo.modules.config import ModelConfig
from uniemo.modules.emotion import EmotionModule
from uniemo.modules.examined import ExaminedModule
from uniemo.modules.feedback import FeedbackModule
from uniemo.modules.joint import JointModule
from uniemo.modules.optim import OptimizerConfig, RateConfig
from uniemo.modules.terms import LossConfig
from uniemo.modules.understanding import UnderstandingModule

__all__ = [
    "EmotionModule",
    "ExaminedModule",
    "FeedbackModule",
    "JointModule",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RateConfig",
    "UnderstandingModule",
    "UniEmoModule",
]
