"""P(emotion | attribute) from the Emo-A classifier (eq. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from uniemo.metrics.classifier_training import emotion_classifier
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.feature_cache import cached_features
from uniemo.models.attributes import AttributeBank, tables_from_images, tables_from_text

if TYPE_CHECKING:
    from uniemo.data.datamodule import EmotionDataModule


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
        features, _ = cached_features(frozen, data.evaluation_loader("train"))  # (N, E), as the classifier saw them
        if source == "images":
            records = data.records("train")
            read = [row for row in range(len(records)) if records.path(row) not in data.skipped]
            records = records if len(read) == len(records) else records.take(read)
            objects = torch.from_numpy(records.object_matrix())
            scenes = torch.from_numpy(np.array(records.scene))
            probabilities = classifier.probabilities(features.to(device)).cpu()
            tables = tables_from_images(probabilities, scenes, objects, len(bank.scene_text))
        else:
            length = features.norm(dim=1).mean()
            tables = tables_from_text(bank, lambda text: classifier(text.to(device) * length))
    return (tables[0].cpu(), tables[1].cpu()), info.accuracy
