"""One pass over images for all figures: each image goes through each network once, whatever asks for its output."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from uniemo.distributed import gather, get_rank, get_world_size, sum_over_ranks
from uniemo.errors import UniEmoError
from uniemo.metrics.collectors import (
    ClarityScores,
    Collector,
    EmotionScores,
    FeatureSet,
    PairDistances,
    new_statistics,
)
from uniemo.metrics.feature_network import FeatureNetwork
from uniemo.metrics.fid import FeatureStatistics, check_finite
from uniemo.metrics.figures import ProtocolFigures, Taken, protocol_figures
from uniemo.metrics.loading import to_unit
from uniemo.metrics.pairs import EvaluationPlan
from uniemo.metrics.protocols import ProtocolReadings, Reading

C = TypeVar("C", bound=Collector)
Look = tuple[FeatureNetwork, str]  # a network and a view: what an image goes through once


class Evaluator:
    """Takes images once and gives the figures of several protocols.

    Memory does not grow with the images, but for some numbers of eight bytes for each image and pair. Vectors that are
    compared in pairs (LPIPS, Sem-D) are kept only until the last pair that an image is in; in the plan's order those
    are few. In a distributed run each rank hands in its part of the plan (:meth:`EvaluationPlan.part`); what it hands
    in beyond that part, and what comes twice, is dropped, and :meth:`result` is the same on every rank.

    Args:
        plan: which images there are, in which order and pairs; see :func:`uniemo.metrics.pairs.plan_evaluation`.
        readings: for each protocol of the plan that is to be measured, by name, what its figures read.
        batch_size: images that go through a network at once; LPIPS on VGG wants few.

    Raises:
        UniEmoError: fewer images than ranks, or a protocol that the plan does not have.

    Example:
        The whole of an evaluation::

            plan = plan_evaluation(names, emotions, [STRICT, EMOGEN])
            evaluator = Evaluator(plan, readings)
            for images, emotion in real_batches:
                evaluator.add_real(images, emotion)
            for names, images in batches(plan.names):
                evaluator.add(images, names)
            figures = evaluator.result()["strict"].figures
    """

    def __init__(self, plan: EvaluationPlan, readings: Mapping[str, ProtocolReadings], batch_size: int = 32) -> None:
        rank, ranks = get_rank(), get_world_size()
        if len(plan.names) < ranks:
            raise UniEmoError(f"evaluation needs an image for each rank; got {len(plan.names)} for {ranks} ranks")
        missing = [name for name in readings if name not in plan.pairs]
        if missing:
            raise UniEmoError(f"protocol must be one of the plan's, {', '.join(plan.pairs)}; got {missing[0]!r}")
        self.plan = plan
        self.readings = dict(readings)
        self.batch_size = batch_size
        self._part = plan.part(rank, ranks)
        self._position = {name: position for position, name in enumerate(plan.names)}
        self._seen: set[int] = set()
        self._seen_real: set[str] = set()
        self._real: dict[Reading, FeatureStatistics] = {}
        self._real_summed: set[Reading] = set()
        self._collectors: list[Collector] = []
        self._taken = {name: self._collect(name, reading) for name, reading in self.readings.items()}
        self._unmerged = self._collectors[::-1]
        self._looks: defaultdict[Look, list[Collector]] = defaultdict(list)
        for collector in self._collectors:
            self._looks[collector.reading.network, collector.reading.view].append(collector)

    def _collect(self, protocol: str, readings: ProtocolReadings) -> Taken:
        """Return the collectors of a protocol; those that another protocol has already are shared."""
        pairs = self.plan.pairs[protocol]
        taken = Taken(
            pairs,
            [self._shared(EmotionScores, reading) for reading in readings.emotion],
            [self._shared(ClarityScores, reading) for reading in readings.clarity],
            None if readings.fid is None else self._shared(FeatureSet, readings.fid),
            None if readings.lpips is None else PairDistances(self.plan, readings.lpips, pairs),
            None if readings.sem_d is None else PairDistances(self.plan, readings.sem_d, pairs),
        )
        self._collectors += [collector for collector in (taken.lpips, taken.sem_d) if collector is not None]
        return taken

    def _shared(self, kind: type[C], reading: Reading) -> C:
        """Return the collector of this kind and reading, a new one when there is none yet."""
        for collector in self._collectors:
            if isinstance(collector, kind) and collector.reading == reading:
                return collector
        made = kind(self.plan, reading)
        self._collectors.append(made)
        return made

    @torch.no_grad()
    def add(self, images: Tensor | Sequence[Tensor], names: Sequence[str]) -> None:
        """Take generated images.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W) of any sizes; floats in [0, 1], or bytes, which are divided by
                255 here.
            names: B ids of the plan; one that came before, or belongs to another rank's part, is dropped.

        Raises:
            UniEmoError: an id that the plan does not have, or an output that is not finite; the image is named.
        """
        _check_lengths(images, names)
        positions: list[int] = []
        rows: list[int] = []
        for row, name in enumerate(names):
            position = self._position.get(name, -1)
            if position < 0:
                raise UniEmoError(f"image must be in the plan; {name!r} is not: plan with all images")
            if position in self._part and position not in self._seen:
                self._seen.add(position)
                positions.append(position)
                rows.append(row)
        for part, batch in self._batches(images, rows):
            self._take(batch, [positions[number] for number in part])

    def _take(self, images: Tensor, positions: list[int]) -> None:
        """Send a batch through every network that a figure of these images reads."""
        for (network, view), collectors in self._looks.items():
            wanted = [collector.wanted(positions) for collector in collectors]
            rows = sorted(set().union(*wanted))
            if not rows:
                continue
            every = len(rows) == len(positions)
            part = positions if every else [positions[row] for row in rows]
            output = self._run(network, view, images if every else images[rows], part)
            place = {row: number for number, row in enumerate(rows)}
            for collector, mine in zip(collectors, wanted, strict=True):
                if not mine:
                    continue
                read = output
                if len(mine) < len(rows):
                    index = torch.tensor([place[row] for row in mine], device=network.device)
                    read = {collector.reading.key: output[collector.reading.key][index]}
                collector.take(read, [positions[row] for row in mine])

    def _run(self, network: FeatureNetwork, view: str, images: Tensor, positions: Sequence[int]) -> dict[str, Tensor]:
        """Run a network; what it finds wrong with an image gets the image's name."""
        try:
            return network(images, view)
        except UniEmoError as error:
            inside = ((images >= -1e-4) & (images <= 1 + 1e-4)).flatten(1).all(dim=1)
            if inside.all():
                raise
            bad = positions[int((~inside).nonzero()[0])]
            raise UniEmoError(f"image {self.plan.names[bad]}: {error}") from error

    @torch.no_grad()
    def add_real(
        self, images: Tensor | Sequence[Tensor], emotion: Tensor | Sequence[int], names: Sequence[str] | None = None
    ) -> None:
        """Take real images, for FID alone; each rank takes other ones.

        Args:
            images: as in :meth:`add`.
            emotion: (B,) class indices.
            names: B ids; one that came before is dropped. None takes all images.

        Raises:
            UniEmoError: an output that is not finite.
        """
        labels = torch.as_tensor(emotion)
        _check_lengths(images, labels if names is None else names)
        rows = list(range(len(labels)))
        if names is not None:
            first = {name: row for row, name in reversed(list(enumerate(names))) if name not in self._seen_real}
            rows = sorted(first.values())
            self._seen_real.update(first)
        readings = {reading.fid: None for reading in self.readings.values() if reading.fid}
        for part, batch in self._batches(images, rows):
            mine = [rows[number] for number in part]
            for reading in readings:
                value = reading.read(reading.network(batch, reading.view))
                shown = [names[row] if names else str(row) for row in mine]
                check_finite(value, f"features of {reading.name}", shown)
                if reading not in self._real:
                    self._real[reading] = new_statistics(self.plan, reading, value)
                self._real[reading].update(value, labels[mine])

    def real_statistics(self) -> dict[str, FeatureStatistics]:
        """Return the sums of the real images for each protocol that has some, of all ranks (every rank calls it)."""
        for reading in {readings.fid: None for readings in self.readings.values() if readings.fid}:
            if reading in self._real_summed:
                continue
            self._real_summed.add(reading)
            size = max(gather(self._real[reading].total.shape[1] if reading in self._real else 0))
            if size:  # a rank may have had no real image
                empty = new_statistics(self.plan, reading, torch.empty(0, size, device=reading.network.device))
                sum_over_ranks(list(self._real.setdefault(reading, empty).state().values()))
        return {
            name: self._real[readings.fid]
            for name, readings in self.readings.items()
            if readings.fid is not None and readings.fid in self._real
        }

    def use_real(self, protocol: str, statistics: FeatureStatistics) -> None:
        """Take the sums of real images from before, of all ranks, instead of :meth:`add_real`.

        Raises:
            UniEmoError: they are of another network or preparation.
        """
        reading = self.readings[protocol].fid
        if reading is None or statistics.network != reading.identity:
            raise UniEmoError(
                f"FID needs real statistics of the same network, {reading.identity if reading else 'none'}; got those "
                f"of {statistics.network}: compute them again"
            )
        self._real[reading] = statistics
        self._real_summed.add(reading)

    def result(self, seed: int = 0, intervals: bool = True) -> dict[str, ProtocolFigures]:
        """Return the figures by protocol, the same on every rank; every rank calls it, after its last image.

        Args:
            seed: of the intervals.
            intervals: whether to work them out; they are NaN otherwise.

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
        while self._unmerged:
            self._unmerged.pop().merge()
        real = self.real_statistics()
        return protocol_figures(self.plan, self._taken, real, seed, intervals)

    def _batches(self, images: Tensor | Sequence[Tensor], rows: list[int]) -> Iterator[tuple[list[int], Tensor]]:
        """Yield numbers into ``rows`` and their images (b, 3, H, W), b at most the batch size, each of one size."""
        sizes: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            sizes[tuple(images[row].shape)].append(number)
        for same in sizes.values():
            for start in range(0, len(same), self.batch_size):
                part = same[start : start + self.batch_size]
                mine = [rows[number] for number in part]
                if not isinstance(images, Tensor):
                    yield part, to_unit(torch.stack([images[row] for row in mine]))
                elif mine == list(range(mine[0], mine[0] + len(mine))):
                    yield part, to_unit(images[mine[0] : mine[0] + len(mine)])  # no copy
                else:
                    yield part, to_unit(images[mine])


def _check_lengths(images: Sequence[Tensor] | Tensor, names: Sequence[str] | Tensor) -> None:
    """Raise UniEmoError unless there is a name or label for each image."""
    if len(images) != len(names):
        raise UniEmoError(f"images and names must be as many; got {len(images)} and {len(names)}")
