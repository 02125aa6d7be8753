"""CoOp: learned words in front of each emotion's name, CLIP frozen (Zhou et al., IJCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from uniemo.baselines.base import ClassifierBaseline, ClipConfig
from uniemo.baselines.towers import ImageTower, PromptedText, first_context
from uniemo.errors import Seed, Width
from uniemo.models.clip import ClipParts, load_clip
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary, attribute_text

_ENCODER = ClipConfig()
_OPTIMIZER = RateConfig(lr=2e-3, weight_decay=5e-4, algorithm="sgd")  # CoOp's code


class LearnedContext(nn.Module):
    """Zero-shot CLIP whose prompts begin with n = ``length`` learned vectors, of all emotions or of each one.

    They start from the words ``init``, or from noise.
    """

    def __init__(
        self, clip: ClipParts, emotions: Sequence[str], length: int, class_specific: bool, init: str | None
    ) -> None:
        super().__init__()
        context = first_context(clip.text, length, init)  # (n, W)
        self.context = nn.Parameter(context.repeat(len(emotions) if class_specific else 1, 1, 1))  # (C or 1, n, W)
        self.text = PromptedText(clip.text, [attribute_text(name) for name in emotions], length)
        self.tower = ImageTower(clip)
        self.scale = clip.logit_scale

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits of CLIP-normalised images (B, 3, R, R)."""
        text = self.text(self.context[None])[0]  # (C, E)
        return self.scale * self.tower.embed(images) @ text.T


class CoOp(ClassifierBaseline):
    """Train the context vectors; the emotion's name follows them.

    Args:
        encoder: which CLIP.
        context_length: n, vectors in front of the name (16 in the publication).
        class_specific: a context for each emotion, in place of one for all.
        context_init: words to start from, for example "a photo of a"; null starts from noise.
        optimizer: of the vectors.
        seed: of the noise.
    """

    method = "coop"

    def __init__(
        self,
        encoder: ClipConfig = _ENCODER,
        context_length: Width = 16,
        class_specific: bool = False,
        context_init: str | None = None,
        optimizer: RateConfig = _OPTIMIZER,
        seed: Seed = 0,
    ) -> None:
        own = {"encoder": encoder, "context_length": context_length}
        super().__init__({**own, "class_specific": class_specific, "context_init": context_init}, optimizer, seed)

    def make_model(self, vocabulary: Vocabulary) -> nn.Module:
        """Return the network, of which the context alone learns."""
        own = self.hparams
        clip = load_clip(own.encoder["clip"])
        return LearnedContext(clip, vocabulary.emotions, own.context_length, own.class_specific, own.context_init)
