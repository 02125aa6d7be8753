"""P(emotion | attribute) from the Emo-A classifier (eq. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from uniemo.data.transforms import denormalise
from uniemo.metrics.emotion_classifier import emotion_classifier
from uniemo.metrics.networks import FrozenClip
from uniemo.models.attributes import AttributeBank, tables_from_images, tables_from_text

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule


def classifier_tables(
    source: Literal["images", "text"],
    clip: str,
    bank: AttributeBank,
    data: EmotionDataModule,
    device: torch.device,
) -> tuple[tuple[Tensor, Tensor], float]:
    """Let the Emo-A classifier say how attributes distribute over emotions.

    Args:
        source: ``images`` averages it over the training images with an attribute; ``text`` applies it to the
            attribute's text embedding, scaled to the mean length of the training images' features.
        clip: the CLIP whose features it reads.
        bank: text embeddings, in the same CLIP's space.
        data: the training images.
        device: where to run the CLIP.

    Returns:
        The (S, C) and (O, C) tables on the CPU, and the classifier's validation accuracy.
    """
    frozen = FrozenClip(clip).to(device)
    classifier, info = emotion_classifier(frozen, data)
    with torch.no_grad():
        features, scenes, objects = [], [], []
        for batch in data.evaluation_loader("train"):
            features.append(frozen.features(denormalise(batch.images.to(device))))
            scenes.append(batch.scene)
            objects.append(batch.objects)
        stacked = torch.cat(features)  # (N, E)
        if source == "images":
            probabilities = classifier.probabilities(stacked).cpu()
            tables = tables_from_images(probabilities, torch.cat(scenes), torch.cat(objects), len(bank.scene_text))
        else:
            length = stacked.norm(dim=1).mean()
            tables = tables_from_text(bank, lambda text: classifier(text.to(device) * length))
    return (tables[0].cpu(), tables[1].cpu()), info.accuracy
