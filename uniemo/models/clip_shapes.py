"""CLIP image towers named by their sizes, for converted checkpoints: no architecture list and no download needed."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from typing import Any

import open_clip

from uniemo.errors import UniEmoError

HEAD_WIDTH = 64  # of every tower that OpenAI published
VOCABULARY, CONTEXT = 49408, 77  # of OpenAI's tokenizer, which comes with open_clip
TOKENIZER = "ViT-B-32"  # an open_clip name with that tokenizer
_NAME = re.compile(r"vit-w(\d+)-l(\d+)-p(\d+)-r(\d+)-e(\d+)")


@dataclass(frozen=True)
class ClipShape:
    """Sizes of a CLIP image tower with OpenAI's blocks (quick-GELU, heads of 64 channels).

    Attributes:
        width: D.
        layers: N.
        patch: side of a patch in pixels.
        image_size: R.
        embed_dim: E, size of the space that image and text share.
    """

    width: int
    layers: int
    patch: int
    image_size: int
    embed_dim: int

    @property
    def name(self) -> str:
        """The name that :func:`uniemo.models.clip.load_clip` takes, for example ``vit-w1024-l24-p14-r224-e768``."""
        return "vit-w{}-l{}-p{}-r{}-e{}".format(*astuple(self))

    @classmethod
    def from_name(cls, name: str) -> ClipShape | None:
        """Read a name; None when it is another kind of name.

        Raises:
            UniEmoError: sizes that make no tower.
        """
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        shape = cls(*map(int, found.groups()))
        if min(astuple(shape)) < 1 or shape.width % HEAD_WIDTH or shape.image_size % shape.patch:
            raise UniEmoError(
                f"clip width must be a multiple of {HEAD_WIDTH} and the image size one of the patch size; got {name!r}"
            )
        return shape


PUBLISHED = {  # OpenAI's towers by open_clip's names
    "ViT-B-32": ClipShape(768, 12, 32, 224, 512),
    "ViT-B-16": ClipShape(768, 12, 16, 224, 512),
    "ViT-L-14": ClipShape(1024, 24, 14, 224, 768),
    "ViT-L-14-336": ClipShape(1024, 24, 14, 336, 768),
}


def published_name(name: str) -> str | None:
    """Return open_clip's name of the published CLIP that a name with sizes means; None where none has these sizes."""
    shape = ClipShape.from_name(name.rpartition(":")[2])
    return next((known for known, published in PUBLISHED.items() if published == shape), None)


def build_shape(shape: ClipShape, text_width: int = HEAD_WIDTH, text_layers: int = 1) -> Any:  # noqa: ANN401
    """Return an open_clip model of these sizes with random weights and OpenAI's tokens, in eval mode."""
    vision = {
        "image_size": shape.image_size,
        "patch_size": shape.patch,
        "width": shape.width,
        "layers": shape.layers,
        "head_width": HEAD_WIDTH,
    }
    text = {
        "width": text_width,
        "layers": text_layers,
        "heads": max(1, text_width // HEAD_WIDTH),
        "vocab_size": VOCABULARY,
        "context_length": CONTEXT,
    }
    model = open_clip.CLIP(embed_dim=shape.embed_dim, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    set_openai_pixels(model)
    return model.eval()


def set_openai_pixels(model: Any) -> None:  # noqa: ANN401
    """Name OpenAI's pixel normalisation as a model's own, where open_clip's ``create_model`` did not do it."""
    model.visual.preprocess_cfg = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
