"""The whole model: emotion features of an image, read as an emotion and turned into a condition for generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.models.affect_head import AffectHead, to_scale
from uniemo.models.attributes import AttributeBank, AttributeConfig, Kind
from uniemo.models.clip import load_clip
from uniemo.models.diffusion import DiffusionBackbone, DiffusionConfig, find_diffusion, load_diffusion
from uniemo.models.emotion_space import EmotionSpace, EmotionSpaceConfig, Sampler, Weights, emotion_weights, seeded
from uniemo.models.encoder import EmotionFeatures, EncoderConfig, ExpertQueryEncoder
from uniemo.models.fusion import ConditionFusion, FusionConfig, build_fusion
from uniemo.models.head import EmotionHead, HeadConfig
from uniemo.models.losses import Condition, ConditionLossConfig, build_condition_loss
from uniemo.models.state import load_trained_state, trained_state
from uniemo.vocabulary import Vocabulary


@dataclass
class GenerationParts:
    """The configurations of what stages 2 and 3 add to the understanding model."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    space: EmotionSpaceConfig = field(default_factory=EmotionSpaceConfig)
    condition_loss: ConditionLossConfig = field(default_factory=ConditionLossConfig)


class UniEmoModel(nn.Module):
    """Encoder, head and attribute bank; with generation also fusion, condition loss, diffusion model and emotion space.

    Stage 1 has no generation parts: ``fusion``, ``condition_loss``, ``diffusion`` and ``space`` are None then. So is
    ``affect_head`` without a scale of valence and arousal in the vocabulary.

    Args:
        vocabulary: names of emotions, scenes and objects.
        encoder: the expert query encoder.
        head: the emotion head.
        bank: the attribute bank.
        attributes: how α is retrieved.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        encoder: ExpertQueryEncoder,
        head: EmotionHead,
        bank: AttributeBank,
        attributes: AttributeConfig,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.attributes = attributes
        self.encoder = encoder
        self.head = head
        self.bank = bank
        self.scene_projection = self._projection("scene", vocabulary.scenes)
        self.object_projection = self._projection("object", vocabulary.objects)
        self.affect_head: AffectHead | None = None
        self.fusion: ConditionFusion | None = None
        self.condition_loss: nn.Module | None = None
        self.diffusion: DiffusionBackbone | None = None
        self.space: EmotionSpace | None = None
        self.space_config = EmotionSpaceConfig()

    @classmethod
    def build(
        cls,
        vocabulary: Vocabulary,
        encoder: EncoderConfig | None = None,
        head: HeadConfig | None = None,
        attributes: AttributeConfig | None = None,
        generation: GenerationParts | None = None,
        encode_names: bool = True,
    ) -> UniEmoModel:
        """Build a model from configurations; None is the defaults of each but ``generation``.

        Args:
            vocabulary: names of emotions, scenes and objects.
            encoder: the expert query encoder.
            head: the emotion head; that of valence and arousal has its shape.
            attributes: how α is retrieved.
            generation: what stages 2 and 3 add; None for stage 1.
            encode_names: fill the bank with CLIP's text embeddings of the attributes. Leave it out where a checkpoint
                brings them: the text tower then never runs.
        """
        encoder = encoder or EncoderConfig()
        head = head or HeadConfig()
        num_emotions = len(vocabulary.emotions)
        if generation is not None:
            find_diffusion(generation.diffusion.path, generation.diffusion.family)  # an error before any work
        clip = load_clip(encoder.clip)
        if encode_names:
            bank = AttributeBank.from_names(vocabulary.scenes, vocabulary.objects, clip.text, num_emotions)
        else:
            bank = AttributeBank.empty(len(vocabulary.scenes), len(vocabulary.objects), clip.embed_dim, num_emotions)
        model = cls(
            vocabulary,
            ExpertQueryEncoder(encoder, clip),
            EmotionHead(clip.width, num_emotions, head.hidden, head.dropout),
            bank,
            attributes or AttributeConfig(),
        )
        if vocabulary.affect is not None:
            model.affect_head = AffectHead(clip.width, head.hidden, head.dropout)
        if generation is not None:
            model.add_generation(generation)
        return model

    def add_generation(self, parts: GenerationParts) -> None:
        """Add fusion, condition loss, diffusion model and emotion space.

        Raises:
            UniEmoError: the fusion wants a feature that the encoder does not give.
        """
        given = self.encoder.features
        lacking = [token for token in parts.fusion.tokens if token in ("scene", "object") and token not in given]
        if lacking:
            raise UniEmoError(
                f"fusion.tokens must be features that the encoder gives; it has no {' and no '.join(lacking)} queries, "
                f"leave {', '.join(lacking)} out"
            )
        width, names = self.encoder.width, self.vocabulary.emotions
        diffusion = load_diffusion(parts.diffusion)
        embeddings = zip(*(diffusion.token_embedding(name) for name in names), strict=True)
        self.diffusion = diffusion
        self.fusion = build_fusion(parts.fusion, width, diffusion.token_widths, diffusion.token_norms)
        self.condition_loss = build_condition_loss(parts.condition_loss, [torch.stack(rows) for rows in embeddings])
        self.space = EmotionSpace(len(names), width, self.fusion.tokens)
        self.space_config = parts.space

    def train(self, mode: bool = True) -> UniEmoModel:
        """Set the mode; a frozen CLIP tower and the diffusion model stay in eval mode."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.encoder.clip_parameters()):
            self.encoder.visual.eval()
        return self

    # understanding

    def features(self, images: Tensor, attention: bool = False) -> EmotionFeatures:
        """Encode (B, 3, R, R) CLIP-normalised images; patches are there only when the fusion uses them."""
        patches = self.fusion is not None and "patch" in self.fusion.tokens
        return self.encoder(images, attention=attention, patches=patches)

    def logits(self, features: EmotionFeatures) -> Tensor:
        """Return (B, C) emotion logits."""
        return self.head(features.cls)

    def affect(self, features: EmotionFeatures) -> Tensor | None:
        """Return (B, 2) valence and arousal as shares of their scale, in (0, 1); None for a model without the head."""
        return None if self.affect_head is None else self.affect_head(features.cls)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion logits of (B, 3, R, R) CLIP-normalised images."""
        return self.logits(self.features(images))

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the emotion logits of images, and (B, 2) valence and arousal on the vocabulary's scale or None."""
        features = self.features(images)
        shares, scale = self.affect(features), self.vocabulary.affect
        return self.logits(features), None if shares is None or scale is None else to_scale(shares, scale)

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion probabilities of (B, 3, R, R) CLIP-normalised images."""
        return self(images).softmax(dim=-1)

    def project(self, kind: Kind, feature: Tensor | None) -> Tensor | None:
        """Project a (B, D) scene or object feature into CLIP's text space, (B, E); None where there is none."""
        projection = self.scene_projection if kind == "scene" else self.object_projection
        return None if projection is None or feature is None else projection(feature)

    # conditions

    def fused_features(self, features: EmotionFeatures) -> dict[str, Tensor]:
        """Return the (B, D) features that the fusion takes and the emotion space keeps, by name."""
        fusion, _, _ = self._generation()
        parts = {"cls": features.cls, "scene": features.scene, "object": features.object}
        if features.patches is not None:
            parts["patch"] = features.patches.mean(dim=1)
        return {token: parts[token] for token in fusion.tokens}  # type: ignore[misc]

    def correlation(
        self, features: EmotionFeatures | dict[str, Tensor], weights: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return α_s and α_o (eq. 5), (B,) each; None where there is no such feature or no attribute to find.

        Args:
            features: of B images, or their ``scene`` and ``object`` features by name.
            weights: (B,) emotions, or (B, C) weights over emotions.
        """
        parts = features if isinstance(features, dict) else vars(features)
        config = self.attributes
        alphas: list[Tensor | None] = []
        kinds: tuple[Kind, Kind] = ("scene", "object")
        for kind in kinds:
            with torch.set_grad_enabled(torch.is_grad_enabled() and config.retrieval == "soft"):
                projected = self.project(kind, parts.get(kind))
            alphas.append(
                None
                if projected is None
                else self.bank.retrieve(kind, projected, weights, config.retrieval, config.temperature)
            )
        return alphas[0], alphas[1]

    def condition(self, features: EmotionFeatures | dict[str, Tensor], weights: Tensor) -> Condition:
        """Fuse features into the condition of an emotion (eq. 6).

        Args:
            features: of B images, from :meth:`features`, or already picked by :meth:`fused_features`.
            weights: (B,) emotions (the labels in training), or (B, C) weights over emotions.

        Returns:
            c, one (B, W) per text encoder of the diffusion model.
        """
        fusion, _, _ = self._generation()
        parts = features if isinstance(features, dict) else self.fused_features(features)
        alpha_scene = alpha_object = None
        if fusion.correlation:
            alpha_scene, alpha_object = self.correlation(parts, weights)
        return fusion(**parts, alpha_scene=alpha_scene, alpha_object=alpha_object)

    # generation

    @torch.no_grad()
    def sample_condition(
        self,
        weights: Weights | Sequence[Weights],
        seeds: Sequence[int],
        kind: Sampler | None = None,
    ) -> Condition:
        """Sample conditions of an emotion or a mix of emotions, each by its own seed only.

        For a mix, features of each emotion are sampled and fused with its own α; conditions are summed by weight.

        Args:
            weights: weight of each emotion, by index or as (C,); scaled to sum to one. One for all or one per seed.
            seeds: n seeds.
            kind: how features are sampled; None is the configuration's.

        Returns:
            One (n, W) per text encoder.

        Raises:
            UniEmoError: weights that are negative, not finite or without a positive sum, or of another number than the
                seeds; no emotion space yet.
        """
        if isinstance(weights, (dict, Tensor)):
            weights = [weights] * len(seeds)
        if len(weights) != len(seeds):
            raise UniEmoError(f"emotion weights must be as many as seeds; got {len(weights)} for {len(seeds)} seeds")
        rows: dict[tuple[tuple[int, float], ...], list[int]] = {}  # by mix
        for row, one in enumerate(weights):
            rows.setdefault(tuple(emotion_weights(one, self.vocabulary).items()), []).append(row)
        parts = [self._sample_mix(dict(mix), [seeds[row] for row in own], kind) for mix, own in rows.items()]
        place = torch.tensor([row for own in rows.values() for row in own]).argsort()  # where each row went
        return tuple(torch.cat(own)[place.to(own[0].device)] for own in zip(*parts, strict=True))

    def _sample_mix(self, mix: dict[int, float], seeds: Sequence[int], kind: Sampler | None) -> Condition:
        """Sample conditions of one mix of emotions, its weights by index."""
        _, _, space = self._generation()
        device = self.bank.scene_table.device
        found = []
        for emotion in mix:
            generators = [seeded(seed, emotion) for seed in seeds]
            features = space.sample(emotion, generators, kind or self.space_config.kind, self.space_config.noise)
            found.append(self.condition(features, torch.full((len(seeds),), emotion, device=device)))
        per_encoder = zip(*found, strict=True)
        return tuple(sum(w * c for w, c in zip(mix.values(), own, strict=True)) for own in per_encoder)

    def generate(
        self,
        weights: Weights | Sequence[Weights],
        seeds: Sequence[int],
        prompts: Sequence[str] | str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        kind: Sampler | None = None,
        scheduler: str | None = None,
        negative_prompt: str = "",
        batch_size: int = 16,
    ) -> Tensor:
        """Generate one image per seed for an emotion or a mix; a batch may hold images of several.

        Args:
            weights: as in :meth:`sample_condition`.
            seeds: one per image; an image does not depend on the others.
            prompts: one for all or one per image, with ``{}`` where the emotion goes; None is the training prompt.
            steps: denoising steps; None is the configuration's, as for the next ones.
            guidance: scale of classifier-free guidance.
            kind: how features are sampled.
            scheduler: class name of a diffusers scheduler.
            negative_prompt: prompt of the unconditional branch.
            batch_size: images denoised at once.

        Returns:
            (n, 3, H, W) in [0, 1] on the CPU.
        """
        _, diffusion, _ = self._generation()
        if prompts is None or isinstance(prompts, str):
            prompts = [diffusion.config.train_prompt if prompts is None else prompts] * len(seeds)
        condition = self.sample_condition(weights, seeds, kind)
        return diffusion.generate(condition, prompts, seeds, steps, guidance, scheduler, negative_prompt, batch_size)

    # checkpoints

    def trained_state_dict(self, clip_tuned: bool = True) -> dict[str, Tensor]:
        """Return everything but frozen backbones.

        Args:
            clip_tuned: whether CLIP's tower ever differed from its public weights; it is left out otherwise. Of the
                diffusion model only adapters are kept.
        """
        return trained_state(self, clip_tuned)

    def load_trained_state_dict(self, state: dict[str, Tensor], shared_only: bool = False) -> None:
        """Load what :meth:`trained_state_dict` returned; a tower that is left out keeps its public weights.

        Args:
            state: names to tensors.
            shared_only: load the parts (``encoder``, ``head``, ``fusion`` …) that both sides have and leave the others,
                as when a stage starts from the one before. A shared part must fit wholly.

        Raises:
            UniEmoError: names that are missing or unexpected, or a tensor of another shape.
        """
        load_trained_state(self, state, shared_only)

    def _projection(self, kind: Kind, names: Sequence[str]) -> nn.Linear | None:
        """Return the trained linear map to CLIP's text space, where there are a feature and attributes to compare."""
        has_both = kind in self.encoder.features and names
        return nn.Linear(self.encoder.width, self.encoder.embed_dim) if has_both else None

    def _generation(self) -> tuple[ConditionFusion, DiffusionBackbone, EmotionSpace]:
        if self.fusion is None or self.diffusion is None or self.space is None:
            raise UniEmoError(
                "generation needs a model of the joint or feedback stage; this one is of the understanding stage, "
                "train a joint stage from it"
            )
        return self.fusion, self.diffusion, self.space
