"""The emotion space: the distribution of each emotion's features, to sample new ones from."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from uniemo.distributed import broadcast, get_rank
from uniemo.errors import Count, NonNegative, UniEmoError, check_ranges
from uniemo.models.feature_sums import FeatureSums, kept_rows
from uniemo.models.mixture import check_features, fit_mixture
from uniemo.vocabulary import Vocabulary

Weights = dict[int, float] | Tensor  # how much of each emotion
Sampler = Literal["mixture", "variation", "gaussian", "bank"]
SAMPLERS: tuple[Sampler, ...] = ("mixture", "variation", "gaussian")
_EXACT = "donot_use_mm_for_euclid_dist"  # a product of matrices loses what is near 0
_OLD_NAMES: dict[str, Sampler] = {"bank": "variation"}  # of earlier versions


def sampler_name(kind: Sampler) -> Sampler:
    """Return today's name of a way to sample features; an old one warns."""
    if kind not in _OLD_NAMES:
        return kind
    warnings.warn(f"space {kind} is now called {_OLD_NAMES[kind]}: it varies training images", stacklevel=3)
    return _OLD_NAMES[kind]


@dataclass
class EmotionSpaceConfig:
    """How features of an emotion are sampled.

    ``mixture`` is a distribution (:mod:`uniemo.models.mixture`): a component of the emotion is picked and the features
    of all kinds are sampled around its means. ``variation`` is none: it takes the features of one training image, with
    a little noise, and its images are variations of training images. ``gaussian``, the paper's, samples each feature on
    its own from the emotion's mean and standard deviation and loses what features have in common.

    Attributes:
        kind: ``mixture``, ``variation`` or ``gaussian`` (``bank`` is the old name of ``variation``).
        noise: size of the noise of ``variation``, as a share of the emotion's standard deviation.
        bank_size: images of each emotion that are kept for ``variation``.
        components: of each emotion's mixture; null takes as many as make held-out images likeliest.
        mixture_images: most images of each emotion that the mixture is fitted to, at least ``bank_size``.
    """

    kind: Sampler = "mixture"
    noise: NonNegative = 0.1
    bank_size: Count = 256
    components: Count | None = None
    mixture_images: Count = 2048

    def __post_init__(self) -> None:
        """Take today's name of ``kind``; check the ranges."""
        self.kind = sampler_name(self.kind)
        check_ranges(type(self), vars(self), "model.space.")


class EmotionSpace(nn.Module):
    """Per emotion mean and standard deviation, a mixture and a bank of features of its training images; all buffers.

    Args:
        num_emotions: C.
        width: D of the features.
        kinds: which features it knows, for example ``("cls", "scene", "object")``.

    The sizes of mixture and bank differ from one checkpoint to another: loading takes the size of what is loaded.
    """

    bank_emotion: Tensor
    mixture_emotion: Tensor
    mixture_weight: Tensor

    def __init__(self, num_emotions: int, width: int, kinds: Sequence[str]) -> None:
        super().__init__()
        self.num_emotions = num_emotions
        self.kinds = tuple(kinds)
        self.register_buffer("bank_emotion", torch.zeros(0, dtype=torch.int64))  # (M,) of the images
        self.register_buffer("mixture_emotion", torch.zeros(0, dtype=torch.int64))  # (K,) of the components
        self.register_buffer("mixture_weight", torch.zeros(0))  # (K,) summing to one for each emotion
        for kind in self.kinds:
            self.register_buffer(f"mean_{kind}", torch.zeros(num_emotions, width))
            self.register_buffer(f"std_{kind}", torch.zeros(num_emotions, width))
            self.register_buffer(f"bank_{kind}", torch.zeros(0, width))
            self.register_buffer(f"mixture_mean_{kind}", torch.zeros(0, width))
            self.register_buffer(f"mixture_std_{kind}", torch.zeros(0, width))

    @property
    def fitted(self) -> bool:
        """Whether there is anything to sample from: images, or a published space's means and deviations."""
        return len(self.bank_emotion) > 0 or any(bool(getattr(self, f"std_{kind}").any()) for kind in self.kinds)

    @torch.no_grad()
    def fit(
        self, features: dict[str, Tensor], emotion: Tensor, config: EmotionSpaceConfig | None = None, seed: int = 0
    ) -> None:
        """Take the statistics of training images, (N, D) of each kind and their emotions (N,), without augmentation.

        Mean and deviation use all images; bank and mixture at most ``config.bank_size`` and
        ``config.mixture_images`` of each emotion, chosen by ``seed``.
        """
        config = config or EmotionSpaceConfig()
        emotion = emotion.cpu()
        sums = FeatureSums(self.num_emotions)
        sums.add(features, emotion)
        rows, banked = kept_rows(emotion, self.num_emotions, config.bank_size, config.mixture_images, seed)
        kept = {kind: features[kind][rows.to(features[kind].device)] for kind in self.kinds}
        self.take(sums, kept, emotion[rows], banked, config.components, seed)

    @torch.no_grad()
    def take(
        self,
        sums: FeatureSums,
        kept: dict[str, Tensor],
        emotion: Tensor,
        banked: Tensor,
        components: int | None,
        seed: int,
    ) -> None:
        """Take over statistics and fit the mixtures, all ranks together; an emotion without images keeps mean and std.

        Args:
            sums: over all training images.
            kept: (M, D) features of the images that :func:`kept_rows` names, for each of ``kinds``.
            emotion: (M,) int64, theirs.
            banked: (M,) bool, which of them the bank keeps.
            components: of each mixture, see :class:`EmotionSpaceConfig`.
            seed: of the mixtures.
        """
        device = self.bank_emotion.device
        seen = (sums.count > 0).to(device).unsqueeze(1)  # (C, 1)
        for kind in self.kinds:
            for name, value in zip(("mean", "std"), sums.moments(kind), strict=True):
                old = getattr(self, f"{name}_{kind}")
                old.copy_(torch.where(seen, value.to(old), old))
            setattr(self, f"bank_{kind}", kept[kind][banked.to(kept[kind].device)].float().to(device))
        self.bank_emotion = emotion[banked].to(device)
        joined = torch.cat([kept[kind].cpu() for kind in self.kinds], dim=1)  # (M, sum of D)
        check_features(joined)  # the same on all ranks, so that none waits for the first
        present = [index for index in range(self.num_emotions) if bool((emotion == index).any())]
        found = (
            [fit_mixture(joined[emotion == index], seed, components) for index in present] if get_rank() == 0 else []
        )
        mixtures = broadcast(found)  # machines may round differently
        counts = torch.tensor([len(one.weight) for one in mixtures], dtype=torch.int64)
        self.mixture_emotion = torch.tensor(present, dtype=torch.int64).repeat_interleave(counts).to(device)
        self.mixture_weight = torch.cat([one.weight for one in mixtures]).float().to(device)
        for name in ("mean", "std"):
            parts = torch.cat([getattr(one, name) for one in mixtures]).chunk(len(self.kinds), dim=1)
            for kind, part in zip(self.kinds, parts, strict=True):
                setattr(self, f"mixture_{name}_{kind}", part.float().to(device))

    def sample(
        self,
        emotion: int,
        generators: Sequence[torch.Generator],
        kind: Sampler = "mixture",
        noise: float = 0.1,
    ) -> dict[str, Tensor]:
        """Sample features of an emotion, (n, D) for each of ``kinds``.

        Args:
            emotion: its index.
            generators: n CPU generators, one per sample, so that a sample does not depend on the others.
            kind: see :class:`EmotionSpaceConfig`.
            noise: of ``variation``, a share of the standard deviation.

        Raises:
            UniEmoError: nothing fitted yet, no training image had this emotion, or not what ``kind`` samples from.
        """
        kind = sampler_name(kind)
        possible = self.samplers(emotion)
        if not possible:
            raise UniEmoError(
                f"the emotion space must hold images of emotion {emotion}; it has none, "
                f"train a joint or feedback stage on images of it first"
            )
        if kind not in possible:
            raise UniEmoError(
                f"the emotion space must hold what {kind} samples from; this one, of an earlier version or published, "
                f"does not: take --space {' or '.join(possible)}"
            )
        owner = self.mixture_emotion if kind == "mixture" else self.bank_emotion
        members = torch.nonzero(owner == emotion).flatten()  # components, or images
        weights = self.mixture_weight[members].cpu() if kind == "mixture" else torch.ones(len(members))
        rows = members[_picks(weights, generators, kind).to(members.device)]  # (n,), none of a published space
        sampled = {}
        for name in self.kinds:
            mean, std = getattr(self, f"mean_{name}")[emotion], getattr(self, f"std_{name}")[emotion]
            if kind == "mixture":
                mean, std = getattr(self, f"mixture_mean_{name}")[rows], getattr(self, f"mixture_std_{name}")[rows]
            elif kind == "variation":
                mean, std = getattr(self, f"bank_{name}")[rows], noise * std
            shift = torch.stack([torch.randn(mean.shape[-1], generator=generator) for generator in generators])
            sampled[name] = mean + std * shift.to(mean)
        return sampled

    def samplers(self, emotion: int) -> list[Sampler]:
        """Return the ways in which features of an emotion can be sampled."""
        images = bool((self.bank_emotion == emotion).any())
        spread = any(bool(getattr(self, f"std_{name}")[emotion].any()) for name in self.kinds)
        possible = {
            "mixture": bool((self.mixture_emotion == emotion).any()),
            "variation": images,
            "gaussian": images or spread,  # images that are all alike have no spread
        }
        return [kind for kind in SAMPLERS if possible[kind]]

    def distances(
        self, mixes: Sequence[dict[int, float]], seeds: Sequence[int], kind: Sampler, noise: float
    ) -> tuple[Tensor, float] | None:
        """Return how far samples lie from the nearest image of the bank: near 0 a sample repeats a training image.

        The distance is Euclidean between the joined features of a sample and of images of its emotion; of a mix the
        emotion that lies nearest counts.

        Args:
            mixes: n weights by emotion.
            seeds: n seeds.
            kind: see :meth:`sample`, as the next.
            noise: of ``variation``.

        Returns:
            (n,) on the CPU, and, to compare with, the median distance of the emotions' images in the bank to the
            nearest other one; None where the bank has no two images of an emotion, as in a published space.
        """
        found, between = torch.full((len(seeds),), math.inf), []
        for emotion in sorted({emotion for mix in mixes for emotion in mix}):
            images = torch.cat(
                [getattr(self, f"bank_{name}")[self.bank_emotion == emotion] for name in self.kinds], dim=1
            )
            if len(images) < 2:
                return None
            own = [row for row, mix in enumerate(mixes) if emotion in mix]
            sampled = self.sample(emotion, [seeded(seeds[row], emotion) for row in own], kind, noise)
            joined = torch.cat([sampled[name] for name in self.kinds], dim=1)
            found[own] = found[own].minimum(torch.cdist(joined, images, compute_mode=_EXACT).amin(dim=1).cpu())
            between.append(torch.cdist(images, images, compute_mode=_EXACT).fill_diagonal_(math.inf).amin(dim=1).cpu())
        return found, float(torch.cat(between).median())

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """Take the sizes of bank and mixture from the state before it is copied in."""
        for name in [name for name, _ in self.named_buffers() if name.startswith(("bank_", "mixture_"))]:
            incoming = state_dict.get(prefix + name)
            if incoming is not None:
                setattr(self, name, getattr(self, name).new_empty(incoming.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _picks(weights: Tensor, generators: Sequence[torch.Generator], kind: Sampler) -> Tensor:
    """Return a row for each generator, (n,) int64; none where there is nothing to pick from."""
    if not len(weights):
        return torch.zeros(0, dtype=torch.int64)
    if kind == "mixture":
        return torch.cat([torch.multinomial(weights, 1, generator=generator) for generator in generators])
    return torch.cat([torch.randint(len(weights), (1,), generator=generator) for generator in generators])


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
