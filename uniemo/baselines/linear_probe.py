"""Linear probe: one linear layer on a frozen CLIP's image features (Radford et al., 2021, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from uniemo.baselines.base import ClassifierBaseline, ClipConfig
from uniemo.baselines.towers import ImageTower
from uniemo.errors import Seed
from uniemo.models.clip import ClipParts, load_clip
from uniemo.models.head import EmotionHead
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary

_ENCODER, _OPTIMIZER = ClipConfig(), RateConfig(lr=1e-3)


class LinearClassifier(nn.Module):
    """A linear layer on the class token before CLIP's projection, which is where CLIP's authors put their probe.

    With ``learns`` the tower is trained too; with ``hidden`` units the head is UniEmo's instead of a linear layer.
    """

    head: nn.Module

    def __init__(
        self,
        clip: ClipParts,
        num_classes: int,
        learns: bool = False,
        hidden: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.tower = ImageTower(clip, learns)
        if hidden is None:
            self.head = nn.Linear(clip.width, num_classes)
        else:
            self.head = EmotionHead(clip.width, num_classes, hidden, dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits of CLIP-normalised images (B, 3, R, R)."""
        logits: Tensor = self.head(self.tower(images))
        return logits


class LinearProbe(ClassifierBaseline):
    """Train a linear layer on frozen features, by gradient where CLIP's authors fit a logistic regression.

    Args:
        encoder: which CLIP.
        optimizer: of the layer.
        seed: of its first weights.
    """

    method = "linear_probe"

    def __init__(self, encoder: ClipConfig = _ENCODER, optimizer: RateConfig = _OPTIMIZER, seed: Seed = 0) -> None:
        super().__init__({"encoder": encoder}, optimizer, seed)

    def make_model(self, vocabulary: Vocabulary) -> nn.Module:
        """Return tower and layer."""
        return LinearClassifier(load_clip(self.hparams.encoder["clip"]), len(vocabulary.emotions))
