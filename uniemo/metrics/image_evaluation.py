"""The suite on images as they come, not from files: what callbacks measure with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionBatch, EmotionSample
from uniemo.data.dataset import EmotionDataset
from uniemo.data.loader import collate_readable
from uniemo.distributed import even_batches, get_rank, get_world_size
from uniemo.metrics.base import SuiteMetric, metric_device
from uniemo.metrics.emo_a import EmoA
from uniemo.metrics.feature_cache import view_of
from uniemo.metrics.fid import FID, FeatureStatistics
from uniemo.metrics.image_batches import to_unit
from uniemo.metrics.outputs import Output, protocol_outputs
from uniemo.metrics.pairs import plan_evaluation
from uniemo.metrics.protocols import STRICT, Protocol
from uniemo.metrics.result_table import network_names
from uniemo.metrics.suite import MetricSuite
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.metrics.networks import NetworkSet

Images = Tensor | Sequence[Tensor]  # (b, 3, H, W) in [0, 1], or bytes


class ImageEvaluation:
    """The suite by the strict protocol without intervals; on the same images, values are those of ``uniemo evaluate``.

    In a distributed run each rank looks at its share of the images, and all get the same values. Real images are the
    central squares at the resolution of the generator.

    Args:
        networks: on their device; each image goes through each once.
        emotion: of Emo-A, probabilities by the vocabulary's emotions; None leaves it out.
        vocabulary: names of the emotions.
        extra: more metrics.

    Attributes:
        networks: behind the metrics: role, name, source and hash of each.
        answers: of the N images evaluated last: their ids, and :attr:`EmoA.answers`; empty without Emo-A.
    """

    answers: tuple[tuple[str, ...], tuple[Tensor, Tensor, Tensor]] | tuple[()]

    def __init__(
        self,
        networks: NetworkSet,
        emotion: Output | None,
        vocabulary: Vocabulary,
        extra: Sequence[SuiteMetric] = (),
    ) -> None:
        self.vocabulary = vocabulary
        self.extra = extra
        self.outputs = protocol_outputs(
            STRICT,
            fid=networks.fid.get(STRICT.name),
            lpips=networks.lpips,
            clip=networks.clip,
            emotion=() if emotion is None else (emotion,),
            clarity=networks.clarity,
        )
        infos = dict.fromkeys(info for output in self.outputs.values() for info in output.infos)
        self.networks = [asdict(info) for info in infos if info.hash]  # the images themselves have none

    @torch.no_grad()
    def real_statistics(self, loader: DataLoader[EmotionSample]) -> FeatureStatistics | None:
        """Return what FID needs of a loader's images, for example the test split's; None without a network for it.

        Args:
            loader: images of an :class:`uniemo.data.dataset.EmotionDataset`; see :meth:`evaluate_loader`.
        """
        if "fid" not in self.outputs:
            return None
        output = self.outputs["fid"]
        metric = FID(len(self.vocabulary.emotions)).to(metric_device(output.network.device))

        def features(images: Tensor) -> Tensor:
            return output.read(output.network(to_unit(images), output.view))

        nothing = features(torch.zeros(1, 3, 64, 64))[:0]  # what a rank without images has to add
        metric.update_real(nothing, torch.zeros(0, dtype=torch.long))
        names = loader.dataset.records.names()  # type: ignore[attr-defined]
        order = sorted(range(len(names)), key=names.__getitem__)  # as evaluate sees them
        place = {names[row]: number for number, row in enumerate(order)}
        share, size = order[get_rank() :: get_world_size()], loader.batch_size or 1
        for batch in _batches(loader, [share[start : start + size] for start in range(0, len(share), size)]):
            index = torch.tensor([place[name] for name in batch.names])
            metric.update_real(features(_target(batch)), batch.emotion, index)
        with metric.sync_context():
            found = metric.real_statistics(output.identity)
        return None if found is None else found.cpu()

    def evaluate(
        self,
        names_by_emotion: Mapping[str, Sequence[str]],
        images_of: Callable[[Sequence[Sequence[str]]], Iterable[Images]],
        real: FeatureStatistics | None = None,
        pairs: int = STRICT.pairs,
        seed: int = 0,
        batch_size: int = 64,
    ) -> dict[str, float]:
        """Return the metrics of images of which only one batch is there at a time.

        Args:
            names_by_emotion: ids of the images of each intended emotion, at least two each.
            images_of: takes this rank's batches of ids and yields the images of each.
            real: of real images; None leaves FID and KID out.
            pairs: pairs of each emotion for LPIPS and Sem-D.
            seed: of the pairs.
            batch_size: images at a time.

        Returns:
            ``"FID[network]"``, ``KID``, ``LPIPS``, ``Emo-A``, ``Emo-A probability``, ``Sem-C``, ``Sem-D`` and the extra
            ones, each named after its networks, and each again for single emotions as ``"FID[network]/awe"``. LPIPS and
            Sem-D are means over emotions; the others are over all images.

        Raises:
            UniEmoError: an unknown emotion, fewer than two images of one, or real statistics of another network.
        """
        plan = plan_evaluation(names_by_emotion, self.vocabulary.emotions, [Protocol("strict", pairs)], seed)
        outputs = {name: output for name, output in self.outputs.items() if real is not None or name != "fid"}
        suite = MetricSuite(plan, {"strict": outputs}, batch_size, self.extra, seed=None)
        if real is not None:
            suite.load_real([real])
        part = plan.part(get_rank(), get_world_size())
        batches = even_batches(plan.names[part.start : part.stop], len(plan.names), batch_size)
        for names, images in zip(batches, images_of(batches), strict=True):
            suite.update(images, names)
        scores = suite.compute()["strict"]["figures"]
        self.answers = next(((plan.names, metric.answers) for metric in suite.metrics(EmoA)), ())
        scores.pop("Emo-A two-class", None)
        whole, single = {}, {}
        for name, score in scores.items():
            key = f"{name}[{network_names(score['networks'])}]"
            whole[key] = score["value"]
            single.update({f"{key}/{emotion}": part["value"] for emotion, part in score["by_emotion"].items()})
        return whole | single

    @torch.no_grad()
    def evaluate_loader(self, loader: DataLoader[EmotionSample]) -> dict[str, float]:
        """Return :meth:`evaluate` of real images, without FID; emotions with fewer than two images are left out.

        Args:
            loader: images of an :class:`uniemo.data.dataset.EmotionDataset`; it is asked for its dataset, its batch
                size and its workers, not for batches.

        Returns:
            Nothing where no emotion has two images.
        """
        dataset: EmotionDataset = loader.dataset  # type: ignore[assignment]
        records, skips = dataset.records, dataset.on_error == "skip"
        names: defaultdict[str, list[str]] = defaultdict(list)
        for row, label in enumerate(records.emotion.tolist()):
            if not (skips and records.path(row) in dataset.skipped):
                names[self.vocabulary.emotions[label]].append(f"{row:08d}")
        several = {emotion: rows for emotion, rows in names.items() if len(rows) > 1}
        if not several:
            return {}

        def images_of(batches: Sequence[Sequence[str]]) -> Iterable[Images]:
            return map(_target, _batches(loader, [[int(name) for name in part] for part in batches]))

        return self.evaluate(several, images_of, batch_size=loader.batch_size or 1)


def _batches(loader: DataLoader[EmotionSample], rows: Sequence[list[int]]) -> Iterator[EmotionBatch]:
    """Yield the batches of a loader's dataset that have these rows, without the images that cannot be read."""
    workers = loader.num_workers
    batches = DataLoader(loader.dataset, batch_sampler=rows, num_workers=workers, collate_fn=collate_readable)
    return (batch for batch in batches if batch is not None)


def _target(batch: EmotionBatch) -> Tensor:
    """Return the view at the generator's resolution as the bytes that it was made of, (B, 3, D, D)."""
    return view_of(batch, "target").mul(255).round().to(torch.uint8)
