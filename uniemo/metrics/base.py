"""What metrics of the suite have in common; a metric of one's own is a subclass of :class:`ImageMetric`, say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from uniemo.metrics.bootstrap import grouped_means
from uniemo.metrics.pair_store import NotFiniteError, PairStore
from uniemo.metrics.pairs import EvaluationPlan, PairPlan
from uniemo.metrics.split import first_of_each


class SuiteMetric(Metric, ABC):
    """A metric that the suite updates with network outputs.

    Attributes:
        name: as in results.
        needs: names of the outputs (see :func:`uniemo.metrics.outputs.protocol_outputs`) that :meth:`update` takes;
            ``images`` are the images themselves, (B, 3, H, W) in [0, 1].
        per_protocol: whether two protocols with the same outputs still have different values.
        seed: of the bootstrap; None works out no intervals.
    """

    is_differentiable = False
    full_state_update = False
    name: str
    needs: tuple[str, ...]
    per_protocol = False
    seed: int | None = 0

    def setup(self, plan: EvaluationPlan, protocol: str) -> None:
        """Learn which images will come, and which pairs the protocol takes; most metrics need not know."""

    def wanted(self, index: Sequence[int]) -> list[int]:
        """Return the rows, among images with these numbers, that :meth:`update` is to be called with: all."""
        return list(range(len(index)))

    @abstractmethod
    def update(self, *outputs: Tensor, emotion: Tensor, index: Tensor) -> None:
        """Add images.

        Args:
            outputs: what the metric needs, B rows each.
            emotion: (B,) intended class indices.
            index: (B,) number of each image, different for different images.

        Raises:
            NotFiniteError: an output is not finite.
        """

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """Return estimates by name, (1 + C, 3) float64 each.

        Rows: over all images, then of each emotion (NaN for those without images). Columns: value, low and high end of
        the 95 % interval (NaN where there is none).
        """


def require_finite(values: Tensor, index: Tensor) -> None:
    """Raise NotFiniteError when a row of (B, …) is not finite; ``index`` (B,) are the numbers of the images."""
    bad = ~values.flatten(1).isfinite().all(dim=1)
    if bad.any():
        raise NotFiniteError(index[bad.cpu()].tolist())


def metric_device(device: torch.device) -> torch.device:
    """Return where the metrics of a network's outputs are: beside it, but MPS knows no float64."""
    return torch.device("cpu") if device.type == "mps" else device


class ImageMetric(SuiteMetric):
    """Mean over images of one score of each image, or of several scores.

    A subclass says what it needs and how to score it; intervals, single emotions and ranks are taken care of::

        class Brightness(ImageMetric):
            name = "Brightness"
            needs = ("images",)

            def score(self, images, emotion):
                return images.mean(dim=(1, 2, 3))
    """

    values: list[Tensor]
    emotion: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("values", "emotion", "index"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the first K scores that :meth:`score` returns."""
        return (self.name,)

    @abstractmethod
    def score(self, *outputs: Any, emotion: Tensor) -> Tensor:  # noqa: ANN401
        """Return scores (B,), or (B, K) with several :attr:`columns`, of outputs with B rows."""

    def update(self, *outputs: Tensor, emotion: Tensor, index: Tensor) -> None:
        """Add images."""
        for output in outputs:
            require_finite(output, index)
        scores = self.score(*outputs, emotion=emotion.to(outputs[0].device)).to(self.device).double()
        self.values.append(scores[:, None] if scores.ndim == 1 else scores)
        self.emotion.append(emotion.to(self.device))
        self.index.append(index.to(self.device))

    def samples(self) -> tuple[Tensor, Tensor]:
        """Return scores (N, K) and emotions (N,) in the order of the images' numbers, each image once, on the CPU."""
        rows = first_of_each(dim_zero_cat(self.index))
        return dim_zero_cat(self.values)[rows].cpu(), dim_zero_cat(self.emotion)[rows].cpu()

    def compute(self) -> dict[str, Tensor]:
        """Return the mean of each column."""
        values, emotion = self.samples()
        means = grouped_means(values[:, : len(self.columns)].numpy(), emotion.numpy(), self.seed)
        return dict(zip(self.columns, torch.from_numpy(means), strict=True))


class PairMetric(SuiteMetric):
    """Mean over pairs of images of a multiple of their vectors' squared Euclidean distance.

    The mean is over the pairs of each emotion, then over emotions, each with the same weight. A vector is kept only as
    long as a pair waits for it.

    Args:
        pairs: which pairs; None takes the protocol's in :meth:`setup`.
    """

    higher_is_better = True
    per_protocol = True
    distance: Tensor  # (m,) float64, NaN before both images came

    def __init__(self, pairs: PairPlan | None = None) -> None:
        super().__init__()
        if pairs is not None:
            self._take(pairs)

    @abstractmethod
    def scale(self, size: int) -> float:
        """Return the factor on the squared distance of two vectors of this size."""

    def setup(self, plan: EvaluationPlan, protocol: str) -> None:
        """Take the protocol's pairs."""
        self._take(plan.pairs[protocol])

    def _take(self, pairs: PairPlan) -> None:
        self.pairs = pairs
        self.store = PairStore(pairs.first, pairs.second)
        self.add_state(
            "distance", torch.full((len(pairs.first),), torch.nan, dtype=torch.float64), dist_reduce_fx=_first_finite
        )

    def wanted(self, index: Sequence[int]) -> list[int]:
        """Return the rows of images that a pair waits for."""
        return self.store.wanted(index)

    def update(self, *outputs: Tensor, emotion: Tensor, index: Tensor) -> None:
        """Add images by their vectors (B, V); whether these are finite shows in the distances."""
        (vectors,) = outputs
        self._note(*self.store.add(index.tolist(), vectors), vectors.shape[1])

    def _note(self, numbers: list[int], squared: list[float], size: int) -> None:
        if numbers:
            distance = torch.tensor(squared, dtype=torch.float64, device=self.device)
            self.distance[torch.tensor(numbers, device=self.device)] = distance * self.scale(size)

    def sync(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Work out the pairs whose images were seen by different ranks, then bring all distances together."""
        self._note(*self.store.exchange())
        super().sync(*args, **kwargs)

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        if hasattr(self, "pairs"):
            self.store = PairStore(self.pairs.first, self.pairs.second)

    def compute(self) -> dict[str, Tensor]:
        """Return the mean distance."""
        bad = (~self.distance.isfinite()).nonzero().flatten().tolist()
        if bad:
            raise NotFiniteError([int(self.pairs.first[bad[0]]), int(self.pairs.second[bad[0]])])
        values = self.distance.cpu().numpy()[:, None]
        means = grouped_means(values, self.pairs.emotion, self.seed, self.pairs.images, equal_weights=True)
        return {self.name: torch.from_numpy(means)[0]}


def _first_finite(stacked: Tensor) -> Tensor:
    """Return what any of R ranks has, (m,), of (R, m) with NaN elsewhere."""
    return reduce(torch.fmax, stacked.unbind())
