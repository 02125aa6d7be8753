"""All metrics of generated images in one pass: each image goes through each network once, whatever asks for it.

A new metric is a subclass of :class:`uniemo.metrics.base.ImageMetric` in a file of its own and a line in
:func:`default_metrics`; or, outside the package, an entry ``class_path: my_metric.MyMetric`` of
``generation_metrics.metrics``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from uniemo.distributed import gather, get_rank, get_world_size
from uniemo.errors import UniEmoError
from uniemo.metrics.base import SuiteMetric, metric_device
from uniemo.metrics.emo_a import EmoA
from uniemo.metrics.feature_network import FeatureNetwork
from uniemo.metrics.fid import FID, FeatureStatistics
from uniemo.metrics.image_batches import same_size_batches
from uniemo.metrics.lpips import LPIPS
from uniemo.metrics.outputs import EMOTION, Output
from uniemo.metrics.pair_store import NotFiniteError
from uniemo.metrics.pairs import EvaluationPlan
from uniemo.metrics.sem_c import SemC
from uniemo.metrics.sem_d import SemD

M = TypeVar("M", bound=SuiteMetric)
Pass = tuple[FeatureNetwork, str]  # a network and a view: what an image goes through once


def default_metrics(emotions: Sequence[str], outputs: Mapping[str, Output]) -> list[SuiteMetric]:
    """Return the metrics that these outputs allow, in the order of results."""
    clarity = [name for name in ("objects", "scenes") if name in outputs]
    metrics: list[SuiteMetric] = [
        FID(len(emotions)),
        LPIPS(),
        *(EmoA(emotions, name) for name in EMOTION),
        *([SemC(clarity)] if clarity else []),
        SemD(),
    ]
    return [metric for metric in metrics if set(metric.needs) <= outputs.keys()]


@dataclass(eq=False)
class _Entry:
    """A metric with the outputs that it needs; protocols that agree on both share it."""

    metric: SuiteMetric
    outputs: list[Output]

    @contextmanager
    def naming(self, names: Sequence[str]) -> Iterator[None]:
        """Name the network and the image whose output is not finite."""
        try:
            yield
        except NotFiniteError as error:
            what = " and ".join(f"{output.key!r} of {output.name}" for output in self.outputs)
            more = f" and {len(error.index) - 1} more" if len(error.index) > 1 else ""
            raise UniEmoError(
                f"output {what} must be finite; got NaN or infinity for image {names[error.index[0]]}{more}: look at "
                "the image and at the network's weights"
            ) from error

    def compute(self, emotions: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what the metric computes, with the names of emotions and networks."""
        networks = list(dict.fromkeys(info.key for output in self.outputs for info in output.infos))
        found = {}
        for name, estimates in self.metric.compute().items():
            whole, *parts = (_estimate(*row) for row in estimates.tolist())
            by_emotion = {
                emotion: part for emotion, part in zip(emotions, parts, strict=False) if part["value"] is not None
            }
            found[name] = {**whole, "networks": networks, "by_emotion": by_emotion}
        return found


def _estimate(value: float, low: float, high: float) -> dict[str, float | None]:
    """Return a value and its 95 % interval, None for what cannot be had."""
    return {
        name: number if math.isfinite(number) else None
        for name, number in (("value", value), ("low", low), ("high", high))
    }


class MetricSuite:
    """The metrics of one protocol or several, updated together.

    Memory does not grow with the images, but for some numbers of eight bytes for each image and pair. In a distributed
    run each rank hands in its part of the plan (:meth:`EvaluationPlan.part`); what it hands in beyond that part, and
    what comes twice, is dropped, and :meth:`compute` returns the same on every rank.

    Args:
        plan: which images there are, in which order and pairs; see :func:`uniemo.metrics.pairs.plan_evaluation`.
        outputs: for each protocol of the plan, by name, the network outputs by name; see
            :func:`uniemo.metrics.outputs.protocol_outputs`.
        batch_size: images that go through a network at once; LPIPS on VGG wants few.
        extra: more metrics, for every protocol.
        seed: of the intervals; None works out none.

    Raises:
        UniEmoError: fewer images than ranks, or a metric that needs an output that is not there.

    Example:
        The whole of an evaluation::

            plan = plan_evaluation(names, emotions, [STRICT, EMOGEN])
            suite = MetricSuite(plan, outputs)
            for images, emotion in real_batches:
                suite.update_real(images, emotion)
            for names, images in batches(plan.names):
                suite.update(images, names)
            fid = suite.compute()["strict"]["figures"]["FID"]["value"]
    """

    def __init__(
        self,
        plan: EvaluationPlan,
        outputs: Mapping[str, Mapping[str, Output]],
        batch_size: int = 32,
        extra: Sequence[SuiteMetric] = (),
        seed: int | None = 0,
    ) -> None:
        rank, ranks = get_rank(), get_world_size()
        if len(plan.names) < ranks:
            raise UniEmoError(f"evaluation needs an image for each rank; got {len(plan.names)} for {ranks} ranks")
        self.plan = plan
        self.batch_size = batch_size
        self._part = plan.part(rank, ranks)
        self._position = {name: position for position, name in enumerate(plan.names)}
        self._seen: set[int] = set()
        self._entries: list[_Entry] = []
        self._protocols: dict[str, list[_Entry]] = {protocol: [] for protocol in outputs}
        for protocol, named in outputs.items():
            for metric in [*default_metrics(plan.emotions, named), *(metric.clone() for metric in extra)]:
                self._protocols[protocol].append(self._entry(metric, protocol, named, seed))
        self._users: defaultdict[Pass, list[int]] = defaultdict(list)  # which entries need a pass
        for number, entry in enumerate(self._entries):
            for output in dict.fromkeys((output.network, output.view) for output in entry.outputs):
                self._users[output].append(number)

    def _entry(self, metric: SuiteMetric, protocol: str, outputs: Mapping[str, Output], seed: int | None) -> _Entry:
        """Return a protocol's metric with its outputs, or the same one of another protocol."""
        missing = [name for name in metric.needs if name not in outputs]
        if missing:
            raise UniEmoError(
                f"metric {metric.name} must need outputs of the suite, {', '.join(outputs)}; it needs {missing[0]!r}"
            )
        needed = [outputs[name] for name in metric.needs]
        for entry in self._entries:
            same = type(entry.metric) is type(metric) and not metric.per_protocol and entry.outputs == needed
            if same and entry not in self._protocols[protocol]:
                return entry
        metric.seed = seed
        metric.setup(self.plan, protocol)
        metric.to(metric_device(next(iter(outputs.values())).network.device))
        self._entries.append(_Entry(metric, needed))
        return self._entries[-1]

    @torch.no_grad()
    def update(self, images: Tensor | Sequence[Tensor], names: Sequence[str]) -> None:
        """Add generated images.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W) of any sizes; floats in [0, 1], or bytes, which are divided by
                255 here.
            names: B ids of the plan; one that came before, or belongs to another rank's part, is dropped.

        Raises:
            UniEmoError: an id that the plan does not have, or an output that is not finite; the image is named.
        """
        if len(images) != len(names):
            raise ValueError(f"images and names must be as many; got {len(images)} and {len(names)}")
        chosen: dict[int, int] = {}  # position in the plan: row
        for row, name in enumerate(names):
            position = self._position.get(name, -1)
            if position < 0:
                raise UniEmoError(f"image must be in the plan; {name!r} is not: plan with all images")
            if position in self._part and position not in self._seen:
                self._seen.add(position)
                chosen[position] = row
        positions = list(chosen)
        for part, batch in same_size_batches([images[row] for row in chosen.values()], self.batch_size):
            self._update(batch, [positions[number] for number in part])

    def _update(self, images: Tensor, positions: list[int]) -> None:
        """Update every metric with a batch; a network's outputs are dropped after the last metric that needs them."""
        rows = [entry.metric.wanted(positions) for entry in self._entries]
        passes: dict[Pass, tuple[dict[str, Tensor], list[int]]] = {}
        for number, entry in enumerate(self._entries):
            values = []
            for output in entry.outputs if rows[number] else ():
                key = output.network, output.view
                if key not in passes:
                    seen = sorted(set().union(*(rows[user] for user in self._users[key])))
                    batch = _rows(images, seen, range(len(images)))
                    passes[key] = self._run(*key, batch, [positions[row] for row in seen]), seen
                found, seen = passes[key]
                values.append(output.read({output.key: _rows(found[output.key], rows[number], seen)}))
            if values:
                index = torch.tensor([positions[row] for row in rows[number]])
                with entry.naming(self.plan.names):
                    entry.metric.update(*values, emotion=torch.from_numpy(self.plan.emotion)[index], index=index)
            for key in [key for key in passes if self._users[key][-1] == number]:
                del passes[key]

    def _run(self, network: FeatureNetwork, view: str, images: Tensor, positions: Sequence[int]) -> dict[str, Tensor]:
        """Run a network; what it finds wrong with an image gets the image's name."""
        try:
            return network(images, view)
        except ValueError as error:
            inside = ((images >= -1e-4) & (images <= 1 + 1e-4)).flatten(1).all(dim=1)
            if inside.all():
                raise
            bad = positions[int((~inside).nonzero()[0])]
            raise UniEmoError(f"image {self.plan.names[bad]}: {error}") from error

    @torch.no_grad()
    def update_real(
        self,
        images: Tensor | Sequence[Tensor],
        emotion: Tensor | Sequence[int],
        names: Sequence[str] | None = None,
        index: Sequence[int] | None = None,
    ) -> None:
        """Add real images, for FID and KID alone; each rank adds other ones.

        Args:
            images: as in :meth:`update`.
            emotion: (B,) class indices.
            names: B ids, for errors; None counts.
            index: B numbers among the real images of all ranks; see :meth:`uniemo.metrics.fid.FID.update_real`.

        Raises:
            UniEmoError: an output that is not finite.
        """
        labels = torch.as_tensor(emotion)
        for part, batch in same_size_batches(images, self.batch_size):
            for entry, metric in self._fid():
                output = entry.outputs[0]
                features = output.read(output.network(batch, output.view))
                with entry.naming([names[row] if names else str(row) for row in part]):
                    metric.update_real(features, labels[part], None if index is None else torch.tensor(index)[part])

    def metrics(self, kind: type[M]) -> list[M]:
        """Return the metrics of a class, of all protocols."""
        return [entry.metric for entry in self._entries if isinstance(entry.metric, kind)]

    def _fid(self) -> list[tuple[_Entry, FID]]:
        return [(entry, entry.metric) for entry in self._entries if isinstance(entry.metric, FID)]

    def real_identities(self) -> set[str]:
        """Return the networks (name, hash and preparation) that real images go through."""
        return {entry.outputs[0].identity for entry, _ in self._fid()}

    def load_real(self, statistics: Sequence[FeatureStatistics]) -> None:
        """Take the statistics of real images from before, of all ranks, instead of :meth:`update_real`; rank 0's count.

        Raises:
            UniEmoError: they are of another network or preparation.
        """
        if get_rank() > 0:
            return
        known = {one.network: one for one in statistics}
        for entry, metric in self._fid():
            wanted = entry.outputs[0].identity
            if wanted not in known:
                raise UniEmoError(
                    f"FID needs real statistics of the same network, {wanted}; got those of {', '.join(known)}: "
                    "compute them again"
                )
            metric.load_real(known[wanted])

    def real_statistics(self) -> list[FeatureStatistics]:
        """Return the statistics of all ranks' real images, one for each network; call it after :meth:`compute`."""
        return [
            replace(metric.real, network=entry.outputs[0].identity)
            for entry, metric in self._fid()
            if metric.real is not None
        ]

    def compute(self) -> dict[str, dict[str, Any]]:
        """Return the metrics by protocol, the same on every rank; every rank calls it, after its last image.

        Returns:
            For each protocol, under the keys of result files: ``images``, ``real_images`` and ``pairs`` of each
            emotion; ``figures``, metrics by name, each with ``value``, the ends of its interval ``low`` and ``high``,
            the ``networks`` that saw the images, and ``by_emotion``; ``confusion`` of each classifier, (C, C) counts,
            rows intended, columns predicted. LPIPS and Sem-D are means over emotions, the others over all images.

        Raises:
            UniEmoError: an image of the plan never came.
        """
        seen = set().union(*gather(self._seen))
        missing = [name for position, name in enumerate(self.plan.names) if position not in seen]
        if missing:
            raise UniEmoError(
                f"evaluation needs every image of the plan; {len(missing)} of {len(self.plan.names)} never came, first "
                f"{missing[0]}: add them"
            )
        computed = {}
        for entry in self._entries:
            with entry.naming(self.plan.names):
                computed[entry] = entry.compute(self.plan.emotions)
        return {
            protocol: {
                "images": self.plan.counts,
                "real_images": self._real_images(entries),
                "pairs": self.plan.count(self.plan.pairs[protocol].emotion),
                "figures": {name: score for entry in entries for name, score in computed[entry].items()},
                "confusion": [entry.metric.confusion.tolist() for entry in entries if isinstance(entry.metric, EmoA)],
            }
            for protocol, entries in self._protocols.items()
        }

    def _real_images(self, entries: Sequence[_Entry]) -> dict[str, int]:
        """Return the real images of each emotion in a protocol's FID."""
        for entry in entries:
            if isinstance(entry.metric, FID) and entry.metric.real is not None:
                counts = entry.metric.real.count.long().tolist()
                return {name: count for name, count in zip(self.plan.emotions, counts, strict=False) if count}
        return {}


def _rows(values: Tensor, wanted: Sequence[int], present: Sequence[int]) -> Tensor:
    """Return the wanted rows of values whose rows have the numbers ``present``; no copy where these follow on."""
    if len(wanted) == len(present):
        return values
    place = {row: number for number, row in enumerate(present)}
    rows = [place[row] for row in wanted]
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return values[rows[0] : rows[0] + len(rows)]
    return values[torch.tensor(rows, device=values.device)]
