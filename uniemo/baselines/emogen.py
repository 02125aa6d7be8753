"""EmoGen (Yang et al., 2024): an emotion space, mapped to the text encoder's tokens, with attribute loss.

An *emotion encoder* learns to classify emotions; the features in front of its last layer are the emotion space, in
which each emotion is a Gaussian. Then a *mapping network* learns to turn a feature into a token. Its loss weighs, image
by image, the denoising error against the *attribute loss* by the *emotion confidence* α of one of the image's
attributes, how strongly that attribute alone predicts the emotion: L = (1 - α) L_LDM + α L_attr.

Ours: the emotion encoder is two layers on the frozen CLIP's image features, which all methods here share, where the
publication trains a ResNet-50; the mapping network has the form of UniEmo's condition mappers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.baselines.generative import EmotionDiffusion, GeneratorBaseline, Mixes
from uniemo.data.batch import EmotionBatch
from uniemo.data.transforms import denormalise
from uniemo.distributed import batch_mean
from uniemo.errors import NonNegative, Seed, Temperature, Width, check_ranges
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.metrics.classifier_training import ClassifierConfig, emotion_classifier
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.feature_cache import cached_features
from uniemo.models.attributes import AttributeBank
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpace, EmotionSpaceConfig, Sampler, seeded
from uniemo.models.fusion import ConditionFusion, FusionConfig
from uniemo.models.losses import Condition, sample_object
from uniemo.models.precision import products
from uniemo.modules.coefficient_tables import classifier_tables
from uniemo.modules.optim import RateConfig
from uniemo.modules.random import sample_uniform
from uniemo.modules.stage_losses import denoising_errors
from uniemo.vocabulary import Vocabulary, attribute_text

_ATTRIBUTE = 21  # stream of random numbers
_NAMES = 64  # attribute names encoded at once


@dataclass
class EmotionEncoderConfig:
    """The emotion encoder.

    Attributes:
        clip: the frozen CLIP whose image features it takes, see :func:`uniemo.models.clip.load_clip`.
        hidden: width of the emotion space.
    """

    clip: str = "miniature:clip"
    hidden: Width = 256

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.encoder.")


_ENCODER, _SPACE = EmotionEncoderConfig(), EmotionSpaceConfig(kind="gaussian")
_DIFFUSION = DiffusionConfig()
_OPTIMIZER = RateConfig(lr=1e-3)  # of UniEmo's released code for its mappers


class EmotionEncoder(nn.Module):
    """Two layers on a frozen CLIP's image features that classify emotions; the first gives the emotion space.

    Checkpoints leave the CLIP (``visual``) out; the module trains ``classifier`` and loads it here.
    """

    def __init__(self, config: EmotionEncoderConfig, num_emotions: int) -> None:
        super().__init__()
        self.visual = FrozenClip(config.clip).requires_grad_(False)
        self.classifier = EmotionClassifier(self.visual.embed_dim, num_emotions, config.hidden).requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the emotion features (B, D) of CLIP-normalised images (B, 3, R, R)."""
        return self.emotion_features(self.visual.features(denormalise(images).clamp(0, 1)))

    def emotion_features(self, features: Tensor) -> Tensor:
        """Return the emotion features (B, D), from zero, of CLIP's image features (B, E)."""
        head = self.classifier
        return F.relu(head.layers[0]((features - head.mean) / head.std))


class MappedEmotions(EmotionDiffusion):
    """A frozen diffusion model with an emotion encoder, an emotion space and a mapping from features to tokens."""

    confidence: Tensor  # (A, C) emotion confidence of the scenes, then the objects

    def __init__(
        self, vocabulary: Vocabulary, config: DiffusionConfig, encoder: EmotionEncoderConfig, space: EmotionSpaceConfig
    ) -> None:
        super().__init__(vocabulary, config)
        count, diffusion = len(vocabulary.emotions), self.diffusion
        self.encoder = EmotionEncoder(encoder, count)
        fusion = FusionConfig(tokens=("cls",), correlation=False)
        self.mapping = ConditionFusion(fusion, encoder.hidden, diffusion.token_widths, diffusion.token_norms)
        self.space = EmotionSpace(count, encoder.hidden, ("cls",))
        self.space_config = space
        self.register_buffer("confidence", torch.zeros(len(vocabulary.scenes) + len(vocabulary.objects), count))

    def condition(self, features: Tensor) -> Condition:
        """Map emotion features (B, D) to tokens, one (B, W) per text encoder."""
        return self.mapping(cls=features)

    def texts(
        self, mixes: Mixes, seeds: Sequence[int], templates: Sequence[str], kind: Sampler | None = None
    ) -> tuple[list[str], Condition | None]:
        """Return the templates, and tokens of sampled features; of a mix their weighted sum."""
        kind = kind or self.space_config.kind
        tokens = [self._token(mix, seed, kind) for mix, seed in zip(mixes, seeds, strict=True)]
        return list(templates), tuple(torch.cat(rows) for rows in zip(*tokens, strict=True))

    def _token(self, mix: dict[int, float], seed: int, kind: Sampler) -> Condition:
        """Return the token of one image, one (1, W) per text encoder."""
        found = []
        for emotion, weight in mix.items():
            features = self.space.sample(emotion, [seeded(seed, emotion)], kind, self.space_config.noise)
            found.append([weight * token for token in self.condition(features["cls"])])
        return tuple(torch.stack(tokens).sum(dim=0) for tokens in zip(*found, strict=True))

    @torch.no_grad()
    def attribute_features(self) -> tuple[Tensor, ...]:
        """Return the text encoders' features of the scenes' and objects' names, one (A, P) per text encoder."""
        names = [attribute_text(name) for name in (*self.vocabulary.scenes, *self.vocabulary.objects)]
        parts = [self.diffusion.text_features(names[at : at + _NAMES]) for at in range(0, len(names), _NAMES)]
        return tuple(torch.cat(rows) for rows in zip(*parts, strict=True))


def attribute_loss(text: Tensor, attributes: Tensor, attribute: Tensor, tau: float) -> Tensor:
    """Cross entropy of an image's attribute among all, by the cosine between its token's text feature and their names.

    Args:
        text: (B, P) text features of the images' tokens.
        attributes: (A, P) those of the attributes' names.
        attribute: (B,) index into ``attributes``, -1 where an image has none.
        tau: temperature of the cosines.

    Returns:
        (B,), zero where an image has no attribute.
    """
    scores = products(F.normalize(text.float(), dim=-1), F.normalize(attributes.float(), dim=-1)) / tau  # (B, A)
    losses = F.cross_entropy(scores, attribute.clamp(min=0), reduction="none")
    return torch.where(attribute >= 0, losses, 0 * losses)


class EmoGen(GeneratorBaseline):
    """Learn to map an emotion space to tokens by L = (1 - α) L_LDM + w α L_attr.

    Data without scene and object names has α = 0.

    Args:
        encoder: the emotion encoder.
        diffusion: the frozen diffusion model.
        space: how features are sampled for an emotion; ``gaussian`` is the publication's.
        optimizer: of the mapping network.
        attribute_weight: w; 1 is the publication's formula, 0.01 stands in its released configuration.
        tau: temperature of the attribute loss's cosines; 1, as published, takes them as they are.
        seed: of first weights, noise and sampled attributes.

    Raises:
        UniEmoError: ``tau`` not above 0, ``attribute_weight`` below 0.
    """

    method = "emogen"
    model: MappedEmotions

    def __init__(
        self,
        encoder: EmotionEncoderConfig = _ENCODER,
        diffusion: DiffusionConfig = _DIFFUSION,
        space: EmotionSpaceConfig = _SPACE,
        optimizer: RateConfig = _OPTIMIZER,
        attribute_weight: NonNegative = 1.0,
        tau: Temperature = 1.0,
        seed: Seed = 0,
    ) -> None:
        own = {"encoder": encoder, "space": space, "attribute_weight": attribute_weight, "tau": tau}
        super().__init__(diffusion, optimizer, own, seed)
        self.encoder_config = encoder
        self.space_config = space
        self._prepared = False  # whether encoder, space and confidence are known
        self._attributes: tuple[Tensor, ...] = ()  # their text features

    def make_model(self, vocabulary: Vocabulary) -> MappedEmotions:
        """Return the model; its mapping network alone learns by steps."""
        return MappedEmotions(vocabulary, self.diffusion_config, self.encoder_config, self.space_config)

    # Before the first step.

    def on_fit_start(self) -> None:
        """Train the emotion encoder, fit the emotion space and find the emotion confidence; embed attribute names."""
        super().on_fit_start()
        if not self._prepared:
            self._fit_space()
            self._find_confidence()
            self._prepared = True
        if len(self.model.confidence):
            self._attributes = self.model.attribute_features()

    def _fit_space(self) -> None:
        """Train the emotion encoder on the training images' CLIP features, and fit the emotion space to them."""
        model, data = self.model, self.trainer.datamodule
        encoder, space = model.encoder.to(self.device), self.space_config
        config = ClassifierConfig(hidden=self.encoder_config.hidden, seed=self.seed)
        classifier, info = emotion_classifier(encoder.visual, data, config=config)
        state = self.trainer.strategy.broadcast(classifier.cpu().state_dict())  # machines may round differently
        encoder.classifier.load_state_dict(state)
        features, emotion = cached_features(encoder.visual, data.evaluation_loader("train"))
        with torch.no_grad():
            parts = [encoder.emotion_features(part.to(self.device)).cpu() for part in features.split(4096)]
        model.space.fit({"cls": torch.cat(parts)}, emotion, space, self.seed)
        for logger in self.loggers:
            logger.log_metrics({"emotion_encoder/accuracy": info.accuracy}, step=self.global_step)

    def _find_confidence(self) -> None:
        """Average the emotion classifier's probabilities over the training images that have an attribute."""
        model, names = self.model, self.vocabulary
        if not len(model.confidence):
            return
        width = model.encoder.visual.embed_dim
        bank = AttributeBank.empty(len(names.scenes), len(names.objects), width, len(names.emotions))
        data = self.trainer.datamodule
        tables, _ = classifier_tables("images", self.encoder_config.clip, bank, data, self.device)
        model.confidence.copy_(self.trainer.strategy.broadcast(torch.cat(tables)))

    # Steps.

    def errors(self, batch: EmotionBatch, step: int) -> Tensor:
        """Return the denoising errors (B,) with tokens of the images' own emotion features."""
        condition = self.model.condition(self.model.encoder(batch.images))
        return denoising_errors(self.model.diffusion, condition, batch, self.seed, step)

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (1 - α) L_LDM + w α L_attr, both terms and the mean α."""
        model, step = self.model, self.global_step
        condition = model.condition(model.encoder(batch.images))
        denoising = denoising_errors(model.diffusion, condition, batch, self.seed, step)
        if not self._attributes:
            return batch_mean(denoising), {"diffusion": batch_mean(denoising)}
        attribute = self.sample_attribute(batch, step)
        alpha = model.confidence[attribute.clamp(min=0), batch.emotion]  # (B,)
        alpha = torch.where(attribute >= 0, alpha, 0 * alpha)
        texts = model.diffusion.text_features([model.diffusion.config.train_prompt] * len(batch), condition)
        pairs = zip(texts, self._attributes, strict=True)
        losses = [attribute_loss(text, names, attribute, self.hparams.tau) for text, names in pairs]
        attributes = torch.stack(losses).mean(dim=0)  # (B,) over text encoders
        terms = {"diffusion": denoising, "attribute": attributes, "confidence": alpha}
        total = batch_mean((1 - alpha) * denoising + self.hparams.attribute_weight * alpha * attributes)
        return total, {name: batch_mean(term) for name, term in terms.items()}

    def sample_attribute(self, batch: EmotionBatch, step: int) -> Tensor:
        """Sample one of each image's scene and objects, (B,) among all attributes, -1 for an image without any."""
        scenes = F.one_hot(batch.scene.clamp(min=0), len(self.vocabulary.scenes)).bool()  # (B, S)
        scenes = scenes & (batch.scene >= 0).unsqueeze(1)
        present = torch.cat([scenes, batch.objects], dim=1) & ~batch.generated.unsqueeze(1)  # (B, A)
        return sample_object(present, sample_uniform(batch.sample_id, self.seed, step, _ATTRIBUTE))

    # Checkpoints.

    def on_load_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Compare the file with this module; it holds encoder, space and confidence."""
        super().on_load_checkpoint(checkpoint)
        self._prepared = True
