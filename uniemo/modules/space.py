"""What the emotion space is fitted to, encoded by all ranks together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionSample
from uniemo.data.shares import numbered_share
from uniemo.models.ranks import gathered
from uniemo.models.uniemo import UniEmoModel


@torch.no_grad()
def space_features(
    model: UniEmoModel, loader: DataLoader[EmotionSample], device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the features that the emotion space keeps of images, and their emotions, in the loader's order.

    Each rank encodes every R-th batch; what they found is exchanged, so that all return the same, to the bit what one
    process would. All ranks have to call this together.

    Args:
        model: in eval mode, with an emotion space.
        loader: images in file order, without augmentation.
        device: of the model.

    Returns:
        (N, D) float32 for each of the space's kinds, and (N,) int64, on the CPU.
    """
    space = model.space
    assert space is not None  # the caller's stages have one
    found: dict[str, list[Tensor]] = {
        kind: [torch.zeros(0, getattr(space, f"mean_{kind}").shape[1], device=device)] for kind in space.kinds
    }
    about = [torch.zeros(0, 2, dtype=torch.int64)]
    for number, batch in numbered_share(loader):
        for kind, value in model.fused_features(model.features(batch.images.to(device))).items():
            found[kind].append(value.float())
        about.append(torch.stack([torch.full_like(batch.emotion, number), batch.emotion], dim=1))
    numbers, emotion = gathered(torch.cat(about).to(device))[0].cpu().unbind(dim=1)
    order = numbers.argsort(stable=True)
    return {kind: gathered(torch.cat(parts))[0].cpu()[order] for kind, parts in found.items()}, emotion[order]
