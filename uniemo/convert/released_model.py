"""Our model with the weights of a released checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import open_clip
import torch

from uniemo.convert.coefficients import Rows
from uniemo.convert.pickles import check_complete, check_shapes, fill
from uniemo.convert.released import HEAD_NAMES, ReleasedFile, ReleasedSizes, encoder_names
from uniemo.errors import UniEmoError
from uniemo.models.attributes import AttributeBank, AttributeConfig
from uniemo.models.clip import RANDOM, take_apart
from uniemo.models.clip_shapes import TOKENIZER, build_shape
from uniemo.models.encoder import EncoderConfig, ExpertQueryEncoder
from uniemo.models.head import EmotionHead, HeadConfig
from uniemo.models.uniemo import UniEmoModel
from uniemo.taxonomy import MIKELS_8
from uniemo.vocabulary import Vocabulary

Pixels = Literal["clip", "imagenet", "half"]

# What the released code normalises pixels with: stage 1 by ImageNet's statistics, stage 2 by one half.
_PIXELS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "clip": (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def configs(sizes: ReleasedSizes) -> tuple[EncoderConfig, HeadConfig]:
    """Return the configurations that build a model of these sizes."""
    encoder = EncoderConfig(
        clip=RANDOM + sizes.shape.name,
        query_length=sizes.query_length,
        interactive="released",
        num_layers=1,
        stages=sizes.stages,
    )
    return encoder, HeadConfig(hidden=sizes.hidden)


def build_model(
    file: ReleasedFile, emotions: Sequence[str] | None = None, scenes: Rows | None = None, objects: Rows | None = None
) -> UniEmoModel:
    """Build our model with the weights of a released checkpoint; it computes what the released code computes.

    Args:
        file: the checkpoint.
        emotions: their names in the classifier's order; None is EmoSet's eight, or ``emotion 0`` and on where the
            classifier has another number.
        scenes: P(emotion | scene), a row for each scene; gives the model an attribute bank, embedded by the file's
            text tower, and the file's projection into text space.
        objects: the same of objects.

    Returns:
        The model in eval mode on the CPU. Without a classifier in the file the head's logits are all zero.

    Raises:
        UniEmoError: tensors that are missing or do not fit each other.
    """
    sizes = file.sizes
    width, embed_dim, num_emotions = sizes.shape.width, sizes.shape.embed_dim, sizes.num_emotions
    encoder_config = configs(sizes)[0]
    vocabulary = Vocabulary(emotion_names(sizes, emotions), tuple(scenes or ()), tuple(objects or ()))
    with torch.random.fork_rng(devices=[]):  # first weights, which are replaced, leave the caller's random state alone
        clip = take_apart(build_shape(sizes.shape), TOKENIZER, encoder_config.clip)
        bank = AttributeBank.empty(0, 0, embed_dim, num_emotions)
        if vocabulary.scenes or vocabulary.objects:
            encode = file.text_encoder()
            bank = AttributeBank.from_names(vocabulary.scenes, vocabulary.objects, encode, num_emotions)
            rows = [torch.tensor(list((table or {}).values())) for table in (scenes, objects)]
            bank.set_tables(*(row.reshape(-1, num_emotions) for row in rows))
        head = EmotionHead(width, num_emotions, sizes.hidden)
        model = UniEmoModel(vocabulary, ExpertQueryEncoder(encoder_config, clip), head, bank, AttributeConfig())
    fill(model.encoder, file.model, encoder_names(sizes.shape.layers), file.path)
    if file.classifier is not None:
        fill(model.head, file.classifier, HEAD_NAMES, file.path)
    else:
        for parameter in model.head.parameters():
            torch.nn.init.zeros_(parameter)
    for kind, projection in (("scene", model.scene_projection), ("object", model.object_projection)):
        if projection is not None:
            name = f"visual_query_{kind}_proj"  # (D, E), applied from the right
            check_complete(file.model, [name], file.path)
            check_shapes(file.model, {name: (width, embed_dim)}, file.path)
            weight = file.model[name].T.contiguous()
            projection.load_state_dict({"weight": weight, "bias": torch.zeros(embed_dim)})
    return model.eval()


def emotion_names(sizes: ReleasedSizes, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of a classifier's classes.

    Raises:
        UniEmoError: another number of names than classes, or the same name twice.
    """
    count = sizes.num_emotions
    if given is None:
        return MIKELS_8 if count == len(MIKELS_8) else tuple(f"emotion {index}" for index in range(count))
    names = tuple(name.strip().lower() for name in given)
    if len(names) != count or len(set(names)) != count or not all(names):
        raise UniEmoError(f"emotions must be {count} different names, as many as the classifier's classes; got {names}")
    return names


@torch.no_grad()
def convert_pixels(model: UniEmoModel, pixels: Pixels) -> None:
    """Make the tower see, on images normalised with CLIP's statistics, what it saw with those of ``pixels``.

    A pixel p is (p - m) / s to us and was (p - m') / s' then: a scale and a shift of each channel. The first layer is
    linear and has no padding, so that the scale goes into its weights and the shift into the patches' positions.
    """
    if pixels == "clip":
        return
    visual = model.encoder.visual
    (mean, std), (old_mean, old_std) = (
        tuple(torch.tensor(values) for values in _PIXELS[name]) for name in ("clip", pixels)
    )
    weight = visual.conv1.weight  # (D, 3, p, p)
    shift = torch.einsum("dcij,c->d", weight, (mean - old_mean) / old_std)
    visual.positional_embedding[1:] += shift
    weight.mul_((std / old_std).reshape(1, 3, 1, 1))
