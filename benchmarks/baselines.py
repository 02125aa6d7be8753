"""What the loop's results are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from figures import data
from torch import Tensor, nn
from tqdm import tqdm

from uniemo.cache import atomic_write
from uniemo.checkpoint import load_model
from uniemo.metrics.classifier_training import ClassifierConfig, train_emotion_classifier
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.feature_cache import cached_features
from uniemo.miniature.table import EMOTIONS, OBJECTS, SCENES, cell_weights, emotion_table


def linear_probe(seed: int) -> float:
    """Return the test accuracy of one linear layer on the same frozen CLIP's image features.

    The best of four weight decays by validation loss.

    Args:
        seed: of its training.
    """
    clip = FrozenClip("miniature:clip")
    train, val, test = (cached_features(clip, data().evaluation_loader(split)) for split in ("train", "val", "test"))
    found = []
    for decay in (1e-4, 1e-2, 1e-1, 1.0):
        config = ClassifierConfig(hidden=None, weight_decay=decay, max_epochs=300, seed=seed)
        probe, info = train_emotion_classifier(*train, *val, num_emotions=len(EMOTIONS), config=config)
        found.append((info.loss, float((probe(test[0]).argmax(1) == test[1]).float().mean())))
    return min(found)[1]


def textual_inversion(checkpoint: Path, path: Path, seed: int, epochs: int = 5, rate: float = 5e-3) -> Tensor:
    """Learn one token embedding per emotion on the frozen diffusion model (Gal et al., 2023).

    Args:
        checkpoint: whose diffusion model is used.
        path: where the result is kept.
        seed: of order and noise.
        epochs: passes over the training images, as many as joint training makes.
        rate: learning rate of Adam, decaying linearly to zero.

    Returns:
        (8, W).
    """
    if path.is_file():
        return torch.load(path, weights_only=True)
    diffusion = load_model(checkpoint, generation=True)[0].diffusion
    start = torch.stack([diffusion.token_embedding(name)[0] for name in EMOTIONS])
    tokens = nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([tokens], lr=rate)
    generator = torch.Generator().manual_seed(seed)
    images, emotion = [], []
    for batch in data().evaluation_loader("train"):
        images.append(batch.targets)
        emotion.append(batch.emotion)
    pixels, labels = torch.cat(images), torch.cat(emotion)
    latents = torch.cat([diffusion.encode(part) for part in pixels.split(256)])
    steps = [rows for _ in range(epochs) for rows in torch.randperm(len(latents), generator=generator).split(64)]
    for number, rows in enumerate(tqdm(steps, desc="textual inversion", mininterval=5)):
        optimizer.param_groups[0]["lr"] = rate * (1 - number / len(steps))
        noise = torch.randn(latents[rows].shape, generator=generator)
        time = torch.randint(diffusion.num_timesteps, (len(rows),), generator=generator)
        loss = diffusion.loss(latents[rows], (tokens[labels[rows]],), noise, time).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with atomic_write(path) as temporary:
        torch.save(tokens.detach(), temporary)
    return tokens.detach()


def caption_prompts(per_emotion: int, seed: int) -> dict[str, list[str]]:
    """Return captions, scene and object drawn from P(scene, object | emotion): the ceiling for any condition."""
    generator = np.random.default_rng(seed)
    joint = cell_weights()[..., None] * emotion_table()  # (S, O, 8)
    prompts = {}
    for label, name in enumerate(EMOTIONS):
        share = joint[..., label].ravel() / joint[..., label].sum()
        cells = generator.choice(share.size, per_emotion, p=share)
        pairs = [(SCENES[cell // len(OBJECTS)], OBJECTS[cell % len(OBJECTS)]) for cell in cells]
        prompts[name] = [f"a {thing} in a {scene}".replace("_", " ") for scene, thing in pairs]
    return prompts
