"""The metrics of images as they come, with one small CLIP in the place of all networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionSample
from uniemo.data.dataset import EmotionDataset
from uniemo.data.loader import collate_readable, numbered_share
from uniemo.distributed import even_batches, get_rank, get_world_size, sum_over_ranks
from uniemo.metrics.base import SuiteMetric
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.metrics.clip_networks import FrozenClip, MiniatureNetwork
from uniemo.metrics.emo_a import EmoA
from uniemo.metrics.feature_cache import View, view_of
from uniemo.metrics.fid import FeatureStatistics
from uniemo.metrics.judge import Judge
from uniemo.metrics.outputs import Output, emotion_output, protocol_outputs
from uniemo.metrics.pairs import plan_evaluation
from uniemo.metrics.protocols import STRICT, Protocol
from uniemo.metrics.sem_c import ZeroShotClarity
from uniemo.metrics.suite import MetricSuite
from uniemo.vocabulary import Vocabulary

Images = Tensor | Sequence[Tensor]  # (b, 3, H, W) in [0, 1]


def clarity_outputs(network: MiniatureNetwork, vocabulary: Vocabulary) -> dict[str, Output]:
    """Return what Sem-C needs, by the CLIP's zero-shot softmax; nothing without names of scenes or objects."""
    if not (vocabulary.scenes or vocabulary.objects):
        return {}
    heads = ZeroShotClarity(network.clip, vocabulary).heads
    return {name: Output(network, network.views[0], "features", head) for name, head in heads.items()}


class ClipEvaluation:
    """The suite by the strict protocol without intervals, on one small CLIP.

    In a distributed run each rank looks at its share of the images, and all get the same values.

    Args:
        clip: on its device; each image goes through it once.
        classifier: for Emo-A, on the CLIP's image features, or a judge of its own.
        vocabulary: emotion, scene and object names; without scenes and objects Sem-C is left out.
        view: of real images; ``target`` is at the resolution of the generator, ``image`` at the encoder's.
        extra: more metrics.

    Attributes:
        answers: of the N images evaluated last: their ids, and :attr:`EmoA.answers`.
    """

    answers: tuple[tuple[str, ...], tuple[Tensor, Tensor, Tensor]]

    def __init__(
        self,
        clip: FrozenClip,
        classifier: EmotionClassifier | Judge,
        vocabulary: Vocabulary,
        view: View = "target",
        extra: Sequence[SuiteMetric] = (),
    ) -> None:
        network = MiniatureNetwork(clip)
        self.clip = clip
        self.vocabulary = vocabulary
        self.view = view
        self.extra = extra
        if isinstance(classifier, Judge):
            emotion, self.judge = Output(classifier, classifier.views[0], "probabilities"), classifier.info.name
        else:
            emotion, self.judge = emotion_output(network, classifier.probabilities), clip.name
        self.outputs = protocol_outputs(
            STRICT,
            fid=network,
            lpips=network,
            clip=network,
            emotion=(emotion,),
            clarity=clarity_outputs(network, vocabulary),
        )

    @torch.no_grad()
    def real_statistics(self, loader: DataLoader[EmotionSample]) -> FeatureStatistics:
        """Return the sums for FID of a loader's images, for example the test split's."""
        identity = self.outputs["fid"].identity
        statistics = FeatureStatistics.zeros(len(self.vocabulary.emotions), self.clip.embed_dim, identity)
        for _, batch in numbered_share(loader):
            statistics.update(self.clip.features(view_of(batch, self.view)), batch.emotion)
        sum_over_ranks(list(statistics.state().values()))
        return statistics

    def evaluate(
        self,
        names_by_emotion: Mapping[str, Sequence[str]],
        images_of: Callable[[Sequence[Sequence[str]]], Iterable[Images]],
        real: FeatureStatistics | None = None,
        pairs: int = 1000,
        seed: int = 0,
        batch_size: int = 64,
    ) -> dict[str, float]:
        """Return the metrics of images of which only one batch is there at a time.

        Args:
            names_by_emotion: ids of the images of each intended emotion, at least two each.
            images_of: takes this rank's batches of ids and yields the images of each.
            real: sums of real images; None leaves FID out.
            pairs: pairs of each emotion for LPIPS and Sem-D.
            seed: of the pairs.
            batch_size: images at a time.

        Returns:
            ``"FID[network]"``, ``LPIPS``, ``Emo-A``, ``Emo-A probability``, ``Sem-C``, ``Sem-D`` and the extra ones,
            each named after the network (of Emo-A, the judge's), and each again for single emotions as
            ``"FID[network]/awe"``. LPIPS and Sem-D are means over emotions; the others are over all images.

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
        (emo_a,) = suite.metrics(EmoA)
        self.answers = plan.names, emo_a.answers
        scores.pop("Emo-A two-class", None)
        whole, single = {}, {}
        for name, score in scores.items():
            key = f"{name}[{self.judge if name.startswith(EmoA.name) else self.clip.name}]"
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
            rows = [[int(name) for name in part] for part in batches]
            runner = DataLoader(
                dataset, batch_sampler=rows, num_workers=loader.num_workers, collate_fn=collate_readable
            )
            return (view_of(batch, self.view) for batch in runner)

        return self.evaluate(several, images_of, batch_size=loader.batch_size or 1)
