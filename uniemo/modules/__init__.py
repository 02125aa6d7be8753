"""The three stages of training as LightningModules, and what every trained method shares."""

from uniemo.modules.base import EmotionModule
from uniemo.modules.feedback import FeedbackModule
from uniemo.modules.joint import JointModule
from uniemo.modules.optim import OptimizerConfig, RateConfig
from uniemo.modules.stage_losses import LossConfig
from uniemo.modules.stage_model import ModelConfig
from uniemo.modules.understanding import UnderstandingModule

__all__ = [
    "EmotionModule",
    "FeedbackModule",
    "JointModule",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RateConfig",
    "UnderstandingModule",
]
