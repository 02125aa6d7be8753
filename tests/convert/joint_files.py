"""Checkpoints that can draw, untrained, for the tests of export."""

import torch
from tiny import VOCABULARY

from uniemo import __version__
from uniemo.models.attributes import AttributeConfig
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpaceConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.fusion import FusionConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import ConditionLossConfig
from uniemo.models.uniemo import GenerationParts, UniEmoModel
from uniemo.plain_configs import plain_config

STEPS, GUIDANCE = 3, 4.0


def write(path, /, stage="joint", vocabulary=VOCABULARY, adapters=0.05, **diffusion):
    """A checkpoint of the joint stage on the miniature's CLIP, with an emotion space and any adapters moved."""
    torch.manual_seed(0)
    parts = {
        "encoder": EncoderConfig(query_length=2),
        "head": HeadConfig(hidden=8),
        "attributes": AttributeConfig(),
        "fusion": FusionConfig(),
        "condition": ConditionLossConfig(),
        "diffusion": DiffusionConfig(steps=STEPS, guidance=GUIDANCE, scheduler="DDIMScheduler", **diffusion),
        "space": EmotionSpaceConfig(),
    }
    generation = GenerationParts(parts["fusion"], parts["diffusion"], parts["space"], parts["condition"])
    model = UniEmoModel.build(vocabulary, parts["encoder"], parts["head"], generation=generation)
    width = model.encoder.width
    labels = torch.arange(30) % len(vocabulary.emotions)
    model.space.fit({kind: torch.randn(30, width) for kind in model.space.kinds}, labels)
    for name, value in model.diffusion.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(value, std=adapters)
    about = {
        "version": __version__,
        "stage": stage,
        "vocabulary": vocabulary.to_dict(),
        "model": {name: plain_config(part) for name, part in parts.items()},
        "backbones": {},
        "config": "",
    }
    state = {f"model.{name}": value for name, value in model.trained_state_dict().items()}
    torch.save({"state_dict": state, "uniemo": about}, path)
    return path
