"""The emotion space: the distribution of each emotion's features, to sample new ones from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from uniemo.errors import Count, NonNegative, UniEmoError, check_ranges
from uniemo.vocabulary import Vocabulary

Weights = dict[int, float] | Tensor  # how much of each emotion


@dataclass
class EmotionSpaceConfig:
    """How features of an emotion are sampled.

    Attributes:
        kind: ``bank`` takes whole feature sets of single training images, with a little noise; ``gaussian`` (the
            paper's) samples each feature on its own from the emotion's mean and standard deviation.
        noise: size of the bank's noise, as a share of the emotion's standard deviation.
        bank_size: images kept per emotion.
    """

    kind: Literal["bank", "gaussian"] = "bank"
    noise: NonNegative = 0.1
    bank_size: Count = 256

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.space.")


class EmotionSpace(nn.Module):
    """Per emotion the mean, the standard deviation and a bank of the features of its training images; all buffers.

    Args:
        num_emotions: C.
        width: D of the features.
        kinds: which features it knows, for example ``("cls", "scene", "object")``.

    The bank's size differs from one checkpoint to another: loading takes the size of what is loaded.
    """

    bank_emotion: Tensor

    def __init__(self, num_emotions: int, width: int, kinds: Sequence[str]) -> None:
        super().__init__()
        self.num_emotions = num_emotions
        self.kinds = tuple(kinds)
        self.register_buffer("bank_emotion", torch.zeros(0, dtype=torch.int64))
        for kind in self.kinds:
            self.register_buffer(f"mean_{kind}", torch.zeros(num_emotions, width))
            self.register_buffer(f"std_{kind}", torch.zeros(num_emotions, width))
            self.register_buffer(f"bank_{kind}", torch.zeros(0, width))

    @property
    def fitted(self) -> bool:
        """Whether there is anything to sample from: images, or a published space's means and deviations."""
        return len(self.bank_emotion) > 0 or any(bool(getattr(self, f"std_{kind}").any()) for kind in self.kinds)

    @torch.no_grad()
    def fit(self, features: dict[str, Tensor], emotion: Tensor, bank_size: int = 256, seed: int = 0) -> None:
        """Take the statistics of training images, (N, D) of each kind and their emotions (N,), without augmentation.

        Mean and deviation use all images; the bank keeps at most ``bank_size`` of each emotion, chosen by ``seed``.
        """
        emotion = emotion.cpu()
        sums = FeatureSums(self.num_emotions)
        sums.add(features, emotion)
        rows = bank_rows(emotion, self.num_emotions, bank_size, seed)
        self.take(sums, {kind: features[kind][rows.to(features[kind].device)] for kind in self.kinds}, emotion[rows])

    @torch.no_grad()
    def take(self, sums: FeatureSums, bank: dict[str, Tensor], emotion: Tensor) -> None:
        """Take over statistics; an emotion without images keeps its mean and deviation.

        Args:
            sums: over all training images.
            bank: (M, D) features of the images to keep, for each of ``kinds``.
            emotion: (M,) int64, theirs.
        """
        device = self.bank_emotion.device
        seen = (sums.count > 0).to(device).unsqueeze(1)  # (C, 1)
        for kind in self.kinds:
            for name, value in zip(("mean", "std"), sums.moments(kind), strict=True):
                old = getattr(self, f"{name}_{kind}")
                old.copy_(torch.where(seen, value.to(old), old))
            setattr(self, f"bank_{kind}", bank[kind].float().to(device))
        self.bank_emotion = emotion.to(device)

    def sample(
        self,
        emotion: int,
        generators: Sequence[torch.Generator],
        kind: Literal["bank", "gaussian"] = "bank",
        noise: float = 0.1,
    ) -> dict[str, Tensor]:
        """Sample features of an emotion, (n, D) for each of ``kinds``.

        Args:
            emotion: its index.
            generators: n CPU generators, one per sample, so that a sample does not depend on the others.
            kind: see :class:`EmotionSpaceConfig`.
            noise: of ``bank``, a share of the standard deviation.

        Raises:
            UniEmoError: nothing fitted yet, no training image had this emotion, or a bank without images.
        """
        members = torch.nonzero(self.bank_emotion == emotion).flatten()
        rows = members[:0]
        if len(members):
            picks = [int(torch.randint(len(members), (1,), generator=generator)) for generator in generators]
            rows = members[torch.tensor(picks, dtype=torch.int64, device=members.device)]
        elif not any(bool(getattr(self, f"std_{name}")[emotion].any()) for name in self.kinds):
            raise UniEmoError(
                f"the emotion space must hold images of emotion {emotion}; it has none, "
                f"train a joint or feedback stage on images of it first"
            )
        elif kind == "bank":  # a published emotion space
            raise UniEmoError(
                "an emotion space of means and deviations only can be sampled as gaussian, not as bank: "
                "take --space gaussian"
            )
        sampled = {}
        for name in self.kinds:
            mean, std = getattr(self, f"mean_{name}")[emotion], getattr(self, f"std_{name}")[emotion]
            shift = torch.stack([torch.randn(len(mean), generator=generator) for generator in generators]).to(mean)
            bank = getattr(self, f"bank_{name}")
            sampled[name] = mean + std * shift if kind == "gaussian" else bank[rows] + noise * std * shift
        return sampled

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """Take the bank's size from the state before it is copied in."""
        for name in ("bank_emotion", *(f"bank_{kind}" for kind in self.kinds)):
            incoming = state_dict.get(prefix + name)
            if incoming is not None:
                setattr(self, name, getattr(self, name).new_empty(incoming.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


class FeatureSums:
    """Sums over images by emotion, from which means and deviations follow; in float64, on the CPU.

    Attributes:
        count: (C,) images.
        total: (C, D) sums of the features, by kind.
        squares: (C, D) sums of their squares, by kind.
    """

    def __init__(self, num_emotions: int) -> None:
        self.count = torch.zeros(num_emotions, dtype=torch.float64)
        self.total: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}

    def add(self, features: dict[str, Tensor], emotion: Tensor) -> None:
        """Add images: (B, D) features of each kind, and their emotions (B,) int64."""
        emotion = emotion.cpu()
        self.count += torch.bincount(emotion, minlength=len(self.count))
        for kind, value in features.items():
            rows = value.cpu().double()
            for sums, part in ((self.total, rows), (self.squares, rows.square())):
                zeros = part.new_zeros(len(self.count), part.shape[1])
                sums.setdefault(kind, zeros.clone()).add_(zeros.index_add_(0, emotion, part))

    def moments(self, kind: str) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations (C, D); zero for an emotion without images."""
        count = self.count.clamp(min=1).unsqueeze(1)
        mean = self.total[kind] / count
        return mean, (self.squares[kind] / count - mean.square()).clamp(min=0).sqrt()


def bank_rows(emotion: Tensor, num_emotions: int, bank_size: int, seed: int) -> Tensor:
    """Return which of N images a bank keeps: at most ``bank_size`` of each emotion, chosen by ``seed``.

    Returns:
        (M,) int64 places in ``emotion`` (N,), by emotion and in order.
    """
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for index in range(num_emotions):
        members = torch.nonzero(emotion == index).flatten()
        kept.append(members[torch.randperm(len(members), generator=generator)[:bank_size]].sort().values)
    return torch.cat(kept)


def seeded(seed: int, stream: int) -> torch.Generator:
    """Return a CPU generator for a stream of a seed, unrelated to ``torch.Generator().manual_seed(seed)``."""
    state = np.random.SeedSequence([seed & 0xFFFFFFFFFFFFFFFF, stream, 0x5E]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def emotion_weights(weights: Weights, vocabulary: Vocabulary) -> dict[int, float]:
    """Check a mix of emotions and scale it to sum to one; emotions of weight zero are left out.

    Raises:
        UniEmoError: an index outside the vocabulary, or weights that are negative, not finite or of no positive sum.
    """
    pairs = dict(enumerate(weights.tolist())) if isinstance(weights, Tensor) else weights
    total = math.fsum(pairs.values())
    if not math.isfinite(total) or total <= 0 or any(weight < 0 for weight in pairs.values()):
        raise UniEmoError(
            f"emotion weights must be numbers from zero with a positive sum; got {list(pairs.values())}, "
            f"give for example awe=0.7 fear=0.3"
        )
    wrong = [index for index in pairs if not 0 <= index < len(vocabulary.emotions)]
    if wrong:
        raise UniEmoError(f"emotion index must be from 0 to {len(vocabulary.emotions) - 1}; got {wrong[0]}")
    return {index: weight / total for index, weight in sorted(pairs.items()) if weight > 0}
