"""Losses: emotion, contrastive (eq. 4), condition (eq. 7) and diffusion (eq. 8); in float32 also under autocast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.distributed import all_sum, gather_rows, get_world_size
from uniemo.errors import NonNegative, Temperature, check_ranges
from uniemo.models.precision import linear, products

Condition = tuple[Tensor, ...]  # one (B, W) per text encoder of the diffusion model

TEMPERATURE = 0.07  # the paper's τ, below eq. 4


def emotion_loss(logits: Tensor, emotion: Tensor, distribution: Tensor | None = None) -> Tensor:
    """Return L_cls of each sample, (B,).

    Args:
        logits: (B, C).
        emotion: (B,) class indices; their cross entropy is the loss where there is no distribution.
        distribution: (B, C) target probabilities d, each row with the sum one; the loss is then KL(d || softmax), the
            cross entropy with d less d's own entropy: 0 at its least, and for one-hot d the cross entropy itself.
    """
    if distribution is None:
        return F.cross_entropy(logits, emotion, reduction="none")
    return F.kl_div(logits.float().log_softmax(dim=1), distribution, reduction="none").sum(dim=1)


def contrastive_loss(
    projected: Tensor,
    text: Tensor,
    attribute: Tensor,
    tau: float = TEMPERATURE,
    duplicates: Literal["positive", "negative"] = "positive",
    form: Literal["image_to_text", "symmetric"] = "image_to_text",
) -> Tensor:
    """InfoNCE between image features and the text embeddings of their attributes (eq. 4).

    Samples of all ranks with an attribute are anchors and each other's candidates; samples without take no part. With
    s_ij = cos(projected_i, text of sample j's attribute) / τ and N_i the samples that have i's attribute,

    - ``positive``: -log(Σ_{j in N_i} exp s_ij / Σ_j exp s_ij), multi-positive InfoNCE: only samples with a
      *different* attribute are negatives;
    - ``negative``: -log(exp s_ii / Σ_j exp s_ij), the paper's literal form, where a second sample with the same
      attribute is a negative.

    Both are the same when no attribute occurs twice. Texts of the same attribute are equal, so the sums run over the
    vocabulary, weighted by how often an attribute occurs: (B, V) numbers however many samples the ranks hold.

    Args:
        projected: (B, E) features in CLIP's text space, of any length.
        text: (V, E) text embeddings of the vocabulary, L2-normalised.
        attribute: (B,) index into ``text``, -1 where the image has no attribute.
        tau: temperature τ.
        duplicates: what a sample with the anchor's attribute is.
        form: ``symmetric`` is the mean with the direction from text to image.

    Returns:
        Mean over the valid samples, a scalar; zero, with its graph intact, when there are none. Over several ranks it
        is this rank's sum over the number of valid samples on all ranks, times the number of ranks, so that averaging
        gradients over ranks (as DDP does) gives the gradient of one process with the whole batch
        (:mod:`uniemo.distributed`). Ranks may hold different numbers of samples, one may hold no valid one.
    """
    valid = attribute >= 0
    attribute = attribute.clamp(min=0)
    features = F.normalize(projected.float(), dim=-1)

    counts = all_sum(text.new_zeros(len(text), dtype=torch.float32).index_add_(0, attribute, valid.float()))
    total = counts.sum()

    scores = products(features, text) / tau  # (B, V)
    present = counts.log().clamp(min=torch.finfo(torch.float32).min)  # an absent attribute adds exp(-huge) = 0
    own = scores.gather(1, attribute.unsqueeze(1)).squeeze(1)  # s_ii (B,)
    if duplicates == "positive":
        own = own + counts[attribute].clamp(min=1).log()
    loss = (scores + present).logsumexp(dim=1) - own  # (B,)
    if form == "symmetric":
        loss = (loss + _text_to_image(features, text, attribute, valid, tau, duplicates)) / 2
    return torch.where(valid, loss, 0 * own).sum() / total.clamp(min=1) * get_world_size()


def _text_to_image(
    features: Tensor, text: Tensor, attribute: Tensor, valid: Tensor, tau: float, duplicates: str
) -> Tensor:
    """Return the (B,) losses of the direction from each sample's text to the images of all ranks."""
    images, first = gather_rows(features)
    label, _ = gather_rows(torch.where(valid, attribute, -1).unsqueeze(1))
    label = label.squeeze(1)  # (all images,), -1 for those that take no part
    scores = products(text[attribute], images) / tau  # (B, all images)
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(label < 0, lowest)
    if duplicates == "positive":
        own = scores.masked_fill(label != attribute.unsqueeze(1), lowest).logsumexp(dim=1)
    else:
        mine = first + torch.arange(len(features), device=features.device)
        own = scores.gather(1, mine.unsqueeze(1)).squeeze(1)
    return scores.logsumexp(dim=1) - own


def sample_object(objects: Tensor, uniform: Tensor) -> Tensor:
    """Sample one of each image's objects, all equally likely.

    Args:
        objects: (B, O) bool.
        uniform: (B,) in [0, 1), one per image, so that a choice does not depend on the rest of the batch.

    Returns:
        (B,) int64, -1 where an image has no object.
    """
    if objects.numel() == 0:
        return torch.full((len(objects),), -1, dtype=torch.int64, device=objects.device)
    count = objects.sum(dim=1)
    wanted = torch.minimum((uniform.to(objects.device) * count).long(), count - 1)  # from 0; -1 where there is none
    chosen = (objects.cumsum(dim=1) > wanted.unsqueeze(1)).int().argmax(dim=1)  # first place where so many were passed
    return torch.where(count > 0, chosen, -1)


def diffusion_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of each sample, (B,), of (B, ...) tensors, in float32 (eq. 8)."""
    return F.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(dim=1)


@dataclass
class ConditionLossConfig:
    """Which L_cond (eq. 7).

    Attributes:
        kind: ``prototype`` (InfoNCE against a learned prototype per emotion), ``triplet`` (the released form) or
            ``cross_entropy`` (the ablation row).
        tau: temperature of ``prototype``.
        margin: of ``triplet``.
    """

    kind: Literal["prototype", "triplet", "cross_entropy"] = "prototype"
    tau: Temperature = TEMPERATURE
    margin: NonNegative = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.condition.")


class PrototypeLoss(nn.Module):
    """InfoNCE (cosine) of a condition against one learned prototype per emotion and text encoder.

    Args:
        init: first prototypes, one (C, W) per text encoder: the token embeddings of the emotions' names.
        tau: temperature.
    """

    def __init__(self, init: Sequence[Tensor], tau: float = TEMPERATURE) -> None:
        super().__init__()
        self.tau = tau
        self.prototypes = nn.ParameterList(nn.Parameter(start.detach().clone().float()) for start in init)

    def forward(self, condition: Condition, emotion: Tensor, emotion_logits: Tensor) -> Tensor:
        """Return each sample's loss (B,), the mean over text encoders.

        Args:
            condition: one (B, W) per text encoder.
            emotion: (B,) target emotion.
            emotion_logits: (B, C) of the image; not used by this form.
        """
        del emotion_logits
        losses = []
        for c, prototype in zip(condition, self.prototypes, strict=True):
            scores = products(F.normalize(c.float(), dim=-1), F.normalize(prototype, dim=-1)) / self.tau  # (B, C)
            losses.append(F.cross_entropy(scores, emotion, reduction="none"))
        return torch.stack(losses).mean(dim=0)


class CrossEntropyConditionLoss(nn.Module):
    """Cross entropy of a linear head's logits of the condition, one head per text encoder."""

    def __init__(self, num_emotions: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, num_emotions) for width in widths)

    def forward(self, condition: Condition, emotion: Tensor, emotion_logits: Tensor) -> Tensor:
        """Return each sample's loss (B,), the mean over text encoders; arguments as in :class:`PrototypeLoss`."""
        del emotion_logits
        logits = [linear(head, c) for c, head in zip(condition, self.heads, strict=True)]
        return torch.stack([F.cross_entropy(own, emotion, reduction="none") for own in logits]).mean(dim=0)


class TripletConditionLoss(nn.Module):
    """The released form: a cosine triplet on a linear head's logits of the condition, plus their cross entropy.

    Anchor is the head's (B, C) logits, positive the one-hot target, negative the one-hot of the hardest wrong emotion,
    the one to which the emotion head gives the highest logit for the image; distance is one minus cosine.
    """

    def __init__(self, num_emotions: int, widths: Sequence[int], margin: float = 0.5) -> None:
        super().__init__()
        self.margin = margin
        self.heads = nn.ModuleList(nn.Linear(width, num_emotions) for width in widths)

    def forward(self, condition: Condition, emotion: Tensor, emotion_logits: Tensor) -> Tensor:
        """Return each sample's loss (B,), the mean over text encoders; arguments as in :class:`PrototypeLoss`."""
        wrong = emotion_logits.detach().scatter(1, emotion.unsqueeze(1), -torch.inf).argmax(dim=1)
        losses = []
        for c, head in zip(condition, self.heads, strict=True):
            logits = linear(head, c)
            unit = F.normalize(logits, dim=-1)  # its entries are the cosines with the one-hot vectors
            towards = unit.gather(1, emotion.unsqueeze(1)).squeeze(1)
            away = unit.gather(1, wrong.unsqueeze(1)).squeeze(1)
            triplet = F.relu((1 - towards) - (1 - away) + self.margin)
            losses.append(triplet + F.cross_entropy(logits, emotion, reduction="none"))
        return torch.stack(losses).mean(dim=0)


def build_condition_loss(config: ConditionLossConfig, init: Sequence[Tensor]) -> nn.Module:
    """Return the loss of ``config``; ``init`` holds the (C, W) token embeddings of the emotions per text encoder."""
    num_emotions, widths = len(init[0]), [start.shape[1] for start in init]
    if config.kind == "prototype":
        return PrototypeLoss(init, config.tau)
    if config.kind == "triplet":
        return TripletConditionLoss(num_emotions, widths, config.margin)
    return CrossEntropyConditionLoss(num_emotions, widths)
