"""The frozen diffusion model behind one interface: encode images, embed prompts with a condition, loss, generation.

A family of models (Stable Diffusion 1, XL, …) is one file with one subclass of :class:`DiffusionBackbone`. It names the
diffusers pipeline and its components, and implements how prompts are embedded (:meth:`DiffusionBackbone.embed`) and
what the denoising network is called with (:meth:`DiffusionBackbone.denoise`); anything else can be overridden where a
family differs. A family of the package has its line in :data:`uniemo.models.diffusion.loading.FAMILIES`; one of your
own is named by ``model.diffusion.family: my_module.MyFamily``.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.models.diffusion.components import add_lora, assemble, quiet
from uniemo.models.diffusion.config import DiffusionConfig
from uniemo.models.diffusion.prompts import EncodedPrompts, PromptTokenizer, embedding, encode_prompts
from uniemo.models.diffusion.schedulers import make_noise, make_scheduler
from uniemo.models.losses import Condition, diffusion_loss

_DECODED_PIXELS = 2**20  # decoded at once: four images of 512², whose activations take about a gigabyte each


@dataclass(frozen=True)
class Published:
    """A model that others have published.

    Attributes:
        size: of its files, for an error that says what is to be downloaded.
        changes: how its configurations differ from those of the family's first, by component.
    """

    size: str
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)


class DiffusionBackbone(nn.Module, ABC):
    """A frozen diffusion model, always in eval mode; gradients pass through it to the condition.

    Args:
        config: the choices.
        pipeline: the loaded diffusers pipeline, whose parts are taken over.

    Attributes:
        unet: the denoising network, whatever its architecture.
        image_size: side of its square images in pixels.
        latent_shape: (channels, height, width) of its latents.
        num_timesteps: of the training schedule; timesteps are 0 to ``num_timesteps`` - 1.
        token_widths: W, width of the token embeddings, of each text encoder.
        token_norms: mean length of the token embeddings of each text encoder.

    Raises:
        UniEmoError: a placeholder that is not one token, or an unknown scheduler.
    """

    pipeline_class: ClassVar[str]  # of diffusers; also how model_index.json names the family
    components: ClassVar[dict[str, str]]  # classes of diffusers or transformers by the pipeline's names, in load order
    pipeline_options: ClassVar[dict[str, Any]] = {}  # further arguments of the pipeline
    denoiser: ClassVar[str] = "unet"  # the pipeline's name of the denoising network
    published: ClassVar[dict[str, Published]] = {}  # by name on the hub, or a short one for use without files
    configs: ClassVar[dict[str, dict[str, Any]]] = {}  # of the first by component, for use without files
    single_file_key: ClassVar[str] = ""  # a tensor that only single files of this family have
    lengths: ClassVar[tuple[int | None, ...] | None] = None  # most tokens for each tokenizer; None is its own length
    call_options: ClassVar[dict[str, Any]] = {}  # further arguments where the pipeline generates

    def __init__(self, config: DiffusionConfig, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is imported late
        super().__init__()
        self.config = config
        self.options = dict(self.pipeline_options)
        dtype = getattr(torch, config.dtype)
        with quiet():  # the folder may hold another precision
            self.unet = getattr(pipeline, self.denoiser).to(dtype)
            self.vae = pipeline.vae.to(torch.float32 if pipeline.vae.config.get("force_upcast") else dtype)
        if getattr(self.vae.config, "latents_mean", None) is not None:
            raise UniEmoError(
                f"diffusion.path must have a VAE without latents_mean; {config.path!r} has one, give another"
            )
        names = [name for name in self.components if name.startswith("text_encoder")]
        self.text_encoders = nn.ModuleList(getattr(pipeline, name).to(dtype) for name in names)
        self.tokenizers = [getattr(pipeline, name.replace("text_encoder", "tokenizer")) for name in names]
        self.scheduler_config = {**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__}
        self.noise = make_noise(self.scheduler_config)
        make_scheduler(config.scheduler, self.scheduler_config)  # an unknown name is an error before any work
        self.requires_grad_(False)
        if config.lora_rank > 0:
            add_lora(self.unet, config.lora_rank)
        if config.checkpointing:
            self.unet.enable_gradient_checkpointing()
            for encoder in self.text_encoders:
                encoder.gradient_checkpointing_enable({"use_reentrant": False})
        self.eval()

        size = self.unet.config.sample_size
        self.latent_shape = (self.unet.config.in_channels, size, size)
        self.image_size = size * pipeline.vae_scale_factor
        self.num_timesteps = self.noise.num_timesteps
        weights = [embedding(encoder).weight.float() for encoder in self.text_encoders]
        self.token_widths = tuple(weight.shape[1] for weight in weights)
        self.token_norms = tuple(float(weight.norm(dim=1).mean()) for weight in weights)
        self._tokenize = PromptTokenizer(self.tokenizers, config.placeholder, self.lengths)

    # of each family

    @abstractmethod
    def embed(self, prompts: Sequence[str], condition: Condition | None = None) -> EncodedPrompts:
        """Encode prompts as the denoising network takes them, the condition in place of the placeholder's embedding.

        Args:
            prompts: B texts. Each ``{}`` is a placeholder token.
            condition: one (B, W) per text encoder, whose gradient is kept; None leaves the placeholder's own embedding.

        Raises:
            UniEmoError: a condition is given and a prompt has no ``{}``, or the prompt is cut off before it.
        """

    @abstractmethod
    def denoise(self, noisy: Tensor, timesteps: Tensor, text: EncodedPrompts) -> Tensor:
        """Return the network's (B, *latent_shape) prediction for noisy latents at its own timesteps (B,)."""

    def unconditional(self, negative_prompt: str = "") -> EncodedPrompts:
        """Embed the prompt of the unconditional branch, for one image."""
        return self.embed([negative_prompt])

    # images and latents

    def train(self, mode: bool = True) -> DiffusionBackbone:
        """Stay in eval mode, whatever is asked.

        Where the text encoders' activations are recomputed, their layers alone say that they train, or transformers
        would not recompute; what is inside the layers (dropout) stays in eval mode.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        del mode
        super().train(False)
        for layer in self.text_encoders.modules() if self.config.checkpointing else ():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.training = True
        return self

    @torch.no_grad()
    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Encode (B, 3, H, W) images in [-1, 1] into scaled latents (B, *latent_shape), float32.

        Args:
            images: of side ``image_size``.
            noise: (B, *latent_shape) standard normal, to sample from the VAE's posterior; None takes its mean.
        """
        return self.sample_posterior(self.posterior(images), noise)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Tensor:
        """Return mean and deviation of the VAE's posterior, unscaled: (B, 2, *latent_shape) float32, as ``encode``."""
        with self._vae_precision():
            found = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        return torch.stack([found.mean, found.std], dim=1).float()

    def sample_posterior(self, posterior: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return scaled latents (B, *latent_shape) of a :meth:`posterior`; ``noise`` as in :meth:`encode`."""
        mean, std = posterior.unbind(dim=1)
        latents = mean if noise is None else mean + std * noise.to(mean)
        return (latents - self._vae_shift) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 images in [0, 1] of scaled latents (B, *latent_shape)."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor + self._vae_shift
        with self._vae_precision():
            parts = scaled.split(max(1, _DECODED_PIXELS // self.image_size**2))
            decoded = torch.cat([self.vae.decode(part, return_dict=False)[0] for part in parts])
        return (decoded.float() * 0.5 + 0.5).clamp(0, 1)

    @property
    def _vae_shift(self) -> float:
        """What lies between the VAE's latents and those of mean 0."""
        return self.vae.config.get("shift_factor") or 0.0

    def _vae_precision(self) -> contextlib.AbstractContextManager[Any]:
        """Keep mixed precision away from a VAE that overflows in it."""
        if not self.vae.config.get("force_upcast"):
            return contextlib.nullcontext()
        return torch.autocast(self.vae.device.type, enabled=False)

    # text

    def token_embedding(self, name: str) -> tuple[Tensor, ...]:
        """Return the mean token embedding of a name's tokens, one (W,) per text encoder."""
        found = []
        for tokenizer, encoder in zip(self.tokenizers, self.text_encoders, strict=True):
            weight = embedding(encoder).weight
            ids = tokenizer(name, add_special_tokens=False).input_ids
            found.append(weight[torch.tensor(ids, device=weight.device)].mean(dim=0))
        return tuple(found)

    def text_features(self, prompts: Sequence[str], condition: Condition | None = None) -> tuple[Tensor, ...]:
        """Return the text encoders' own summaries of prompts.

        Args:
            prompts: as in :meth:`embed`, as is ``condition``.
            condition: one (B, W) per text encoder, or None.

        Returns:
            One (B, P) per text encoder: of CLIP the projected embedding where it has a projection, else the last hidden
            state at the end token; of others the mean of the last hidden states over the prompt's tokens.
        """
        outputs = self.encode_text(prompts, condition)
        found = []
        for index, output in enumerate(outputs):
            if "text_embeds" in output or "pooler_output" in output:
                found.append(output.text_embeds if "text_embeds" in output else output.pooler_output)
                continue
            states = output.last_hidden_state  # (B, T, W)
            mask = torch.stack([self._tokenize(prompt)[index].mask for prompt in prompts]).to(states)  # (B, T)
            found.append(torch.einsum("btw,bt->bw", states, mask / mask.sum(dim=1, keepdim=True)))
        return tuple(found)

    def encode_text(
        self, prompts: Sequence[str], condition: Condition | None, masked: bool = False, **options: bool
    ) -> list[Any]:
        """Return each text encoder's output; arguments as in :func:`uniemo.models.diffusion.prompts.encode_prompts`."""
        return encode_prompts(self.text_encoders, self._tokenize, prompts, condition, masked, **options)

    # loss (eq. 8)

    def loss(
        self,
        latents: Tensor,
        condition: Condition | None,
        noise: Tensor,
        timesteps: Tensor,
        prompts: Sequence[str] | None = None,
        drop: Tensor | None = None,
    ) -> Tensor:
        """Return each sample's denoising error (eq. 8) in ε, v or the velocity of a flow, by the model's scheduler.

        Args:
            latents: (B, *latent_shape) from :meth:`encode`.
            condition: one (B, W) per text encoder, whose gradient is kept; None for plain prompts.
            noise: like ``latents``, standard normal.
            timesteps: (B,) int64, 0 to ``num_timesteps`` - 1.
            prompts: B prompts with ``{}``; None is ``train_prompt`` for all.
            drop: (B,) bool, samples that get the empty prompt instead; None is none.

        Returns:
            (B,) mean squared errors.
        """
        text = self.embed(prompts or [self.config.train_prompt] * len(latents), condition)
        if drop is not None and bool(drop.any()):
            text = self.unconditional().where(drop, text)
        noisy = self.noise.add(latents, noise, timesteps)  # z_t
        prediction = self.denoise(noisy, self.noise.seen(timesteps), text)
        return diffusion_loss(prediction, self.noise.target(latents, noise, timesteps))

    # generation

    @torch.no_grad()
    def generate(
        self,
        condition: Condition | None,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        negative_prompt: str = "",
        batch_size: int = 16,
    ) -> Tensor:
        """Generate images; an image depends on its own condition, prompt and seed only.

        Args:
            condition: one (n, W) per text encoder, or None for plain prompts.
            prompts: n prompts, with ``{}`` where the condition goes.
            seeds: n seeds.
            steps: denoising steps; None is the configuration's.
            guidance: guidance scale; None is the configuration's.
            scheduler: see :func:`uniemo.models.diffusion.schedulers.find_scheduler`; None is the configuration's.
            negative_prompt: prompt of the unconditional branch, which never sees the condition.
            batch_size: images denoised at once.

        Returns:
            (n, 3, H, W) float32 in [0, 1] on the CPU.

        Raises:
            UniEmoError: as :meth:`embed`, or prompts, seeds and condition of different number.
        """
        if len(prompts) != len(seeds) or (condition is not None and len(condition[0]) != len(seeds)):
            raise UniEmoError(
                f"prompts and conditions must be as many as seeds; got {len(prompts)} for {len(seeds)} seeds"
            )
        pipeline = self.pipeline(scheduler)
        empty = self.unconditional(negative_prompt)
        images = []
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            text = self.embed(prompts[part], None if condition is None else tuple(c[part] for c in condition))
            result = pipeline(
                **text.arguments(),
                **empty.arguments("negative_", len(text.states)),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                num_inference_steps=steps or self.config.steps,
                guidance_scale=self.config.guidance if guidance is None else guidance,
                height=self.image_size,
                width=self.image_size,
                output_type="latent",  # the pipelines decode in the UNet's precision
                **self.call_options,
            )
            images.append(self.decode(result.images).cpu())
        return torch.cat(images) if images else torch.zeros(0, 3, self.image_size, self.image_size)

    def pipeline(self, scheduler: str | None = None) -> Any:  # noqa: ANN401
        """Return the diffusers pipeline of these networks; ``scheduler`` None is the configuration's."""
        parts = {
            self.denoiser: self.unet,
            "vae": self.vae,
            "scheduler": make_scheduler(scheduler or self.config.scheduler, self.scheduler_config),
        }
        for index, (encoder, tokenizer) in enumerate(zip(self.text_encoders, self.tokenizers, strict=True), start=1):
            end = "" if index == 1 else f"_{index}"
            parts |= {f"text_encoder{end}": encoder, f"tokenizer{end}": tokenizer}
        return assemble(self.pipeline_class, {**parts, **self.options})
