"""Fitting the emotion space to a model's features of training images, by all ranks together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionSample
from uniemo.data.dataset import EmotionDataset
from uniemo.data.loader import numbered_share
from uniemo.distributed import all_sum, gather_rows, get_world_size
from uniemo.models.feature_sums import FeatureSums, kept_rows
from uniemo.models.uniemo import UniEmoModel


@torch.no_grad()
def fit_space(model: UniEmoModel, loader: DataLoader[EmotionSample], device: torch.device, seed: int) -> None:
    """Fit a model's emotion space to images; all ranks have to call this together.

    Each rank encodes every R-th batch, and all end with the same space: bank and mixtures are to the bit those of one
    process, means and deviations differ by the rounding of float64 sums. Which images are kept for the former follows
    from the labels, so that memory does not grow with the number of images.

    Args:
        model: in eval mode, with an emotion space, whose configuration says how many images it keeps.
        loader: of an :class:`uniemo.data.dataset.EmotionDataset` in file order, without augmentation. Images that
            cannot be read and are left out are left out of the space too.
        device: of the model.
        seed: of the choice of images.
    """
    space, config = model.space, model.space_config
    assert space is not None  # the caller's stages have one
    dataset: EmotionDataset = loader.dataset  # type: ignore[assignment]
    labels, ids = (torch.from_numpy(np.array(part)) for part in (dataset.records.emotion, dataset.records.sample_id))
    rows, banked = kept_rows(labels, space.num_emotions, config.bank_size, config.mixture_images, seed)
    widths = {kind: getattr(space, f"mean_{kind}").shape[1] for kind in space.kinds}

    sums = FeatureSums(space.num_emotions)
    sums.add({kind: torch.zeros(0, width) for kind, width in widths.items()}, labels[:0])
    kept = {kind: [torch.zeros(0, width, device=device)] for kind, width in widths.items()}
    kept_ids = [ids[:0]]
    for _, batch in numbered_share(loader):
        features = model.fused_features(model.features(batch.images.to(device)))
        sums.add({kind: value.float() for kind, value in features.items()}, batch.emotion)
        chosen = torch.isin(batch.sample_id, ids[rows])
        kept_ids.append(batch.sample_id[chosen])
        for kind, value in features.items():
            kept[kind].append(value[chosen.to(device)].float())

    _sum_over_ranks(sums, device)
    found = gather_rows(torch.cat(kept_ids).unsqueeze(1).to(device))[0].flatten().tolist()
    place = {number: position for position, number in enumerate(ids[rows].tolist())}
    places = torch.tensor([place[number] for number in found], dtype=torch.int64)
    order = places.argsort()
    places = places[order]
    features = {kind: gather_rows(torch.cat(parts))[0].cpu()[order] for kind, parts in kept.items()}
    space.take(sums, features, labels[rows[places]], banked[places], config.components, seed)


def _sum_over_ranks(sums: FeatureSums, device: torch.device) -> None:
    """Replace this rank's sums by those of all ranks."""
    if get_world_size() == 1:
        return

    def whole(part: Tensor) -> Tensor:
        return all_sum(part.to(device)).cpu()

    sums.count = whole(sums.count)
    for parts in (sums.total, sums.squares):
        parts.update({kind: whole(part) for kind, part in parts.items()})
