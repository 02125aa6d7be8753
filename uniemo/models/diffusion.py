"""The frozen diffusion model: encodes images, takes a condition as a token, tells its loss (eq. 8) and generates."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.models.lora import add_lora
from uniemo.models.losses import Condition, diffusion_loss
from uniemo.models.pipeline import assemble, load_pipeline, make_scheduler, quiet
from uniemo.models.prompts import SLOT, EncodedPrompts, PromptTokenizer, embedding, replaced

_DECODED_PIXELS = 2**20  # decoded at once: four images of 512², whose activations take about a gigabyte each


@dataclass
class DiffusionConfig:
    """The diffusion model and how it is used.

    Attributes:
        path: ``miniature:diffusion``, a Stable Diffusion (1 or XL) folder in diffusers' layout, a single .safetensors
            file or a name on the hub; behind ``random:`` without weights, see
            :func:`uniemo.models.pipeline.find_diffusion`.
        placeholder: word whose single token stands where the condition goes; only its embedding is replaced.
        train_prompt: prompt of training images, ``{}`` marks the placeholder.
        lora_rank: rank of adapters trained on the UNet's attention; 0 for none.
        guidance: scale of classifier-free guidance; up to 1 is without.
        steps: denoising steps.
        scheduler: class name of a diffusers scheduler.
        drop_condition: share of training samples whose prompt is empty, for guidance; 0 relies on the pre-trained
            model's own unconditional branch.
        dtype: precision of the frozen UNet and text encoders; the VAE stays in float32 unless its configuration says
            that it need not.
        checkpointing: recompute the UNet's activations in the backward pass: much less memory, a third more time.
    """

    path: str = "miniature:diffusion"
    placeholder: str = "*"
    train_prompt: str = "{}"
    lora_rank: int = 0
    guidance: float = 7.5
    steps: int = 50
    scheduler: str = "UniPCMultistepScheduler"
    drop_condition: float = 0.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    checkpointing: bool = False


class DiffusionBackbone(nn.Module):
    """A Stable Diffusion 1 or XL, frozen and always in eval mode; gradients pass through it to the condition.

    XL has two text encoders, each with a condition of its own, and tells its UNet two things more: the second text
    encoder's pooled embedding, and original size, crop and target size of the image. Images are taken as what they
    are: of the model's own size, not cropped.

    Args:
        config: the choices.

    Attributes:
        image_size: side of its square images in pixels.
        latent_shape: (channels, height, width) of its latents.
        num_timesteps: of the training schedule; timesteps are 0 to ``num_timesteps`` - 1.
        token_widths: W, width of the token embeddings, of each text encoder.
        token_norms: mean length of the token embeddings of each text encoder.
        zeros_for_empty: whether an empty prompt means embeddings of zeros, as for XL.

    Raises:
        UniEmoError: weights that are missing, a placeholder that is not one token, or an unknown scheduler.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        pipeline = load_pipeline(config.path, config.dtype)
        self.config = config
        self.xl = hasattr(pipeline, "text_encoder_2")
        dtype = getattr(torch, config.dtype)
        with quiet():  # the folder may hold another precision
            self.unet = pipeline.unet.to(dtype)
            self.vae = pipeline.vae.to(torch.float32 if pipeline.vae.config.force_upcast else dtype)
        if getattr(pipeline.vae.config, "latents_mean", None) is not None:
            raise UniEmoError(
                f"diffusion.path must have a VAE without latents_mean; {config.path!r} has one, give another"
            )
        self.text_encoders = nn.ModuleList([pipeline.text_encoder.to(dtype)])
        self.tokenizers = [pipeline.tokenizer]
        if self.xl:
            self.text_encoders.append(pipeline.text_encoder_2.to(dtype))
            self.tokenizers.append(pipeline.tokenizer_2)
        self.zeros_for_empty = self.xl and bool(pipeline.config.force_zeros_for_empty_prompt)
        self.scheduler_config = dict(pipeline.scheduler.config)
        self.schedule = make_scheduler("DDPMScheduler", self.scheduler_config)
        make_scheduler(config.scheduler, self.scheduler_config)  # an unknown name is an error before any work
        self.requires_grad_(False)
        if config.lora_rank > 0:
            add_lora(self.unet, config.lora_rank)
        if config.checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.eval()

        size = self.unet.config.sample_size
        self.latent_shape = (self.unet.config.in_channels, size, size)
        self.image_size = size * pipeline.vae_scale_factor
        self.num_timesteps = int(self.schedule.config.num_train_timesteps)
        weights = [embedding(encoder).weight.float() for encoder in self.text_encoders]
        self.token_widths = tuple(weight.shape[1] for weight in weights)
        self.token_norms = tuple(float(weight.norm(dim=1).mean()) for weight in weights)
        self._tokenize = PromptTokenizer(self.tokenizers, config.placeholder)

    def train(self, mode: bool = True) -> DiffusionBackbone:
        """Stay in eval mode, whatever is asked."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Encode images into scaled latents.

        Args:
            images: (B, 3, D, D) in [-1, 1].
            noise: (B, *latent_shape) standard normal, to draw from the VAE's posterior; None takes its mean.

        Returns:
            (B, *latent_shape) float32.
        """
        return self.draw(self.posterior(images), noise)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Tensor:
        """Return mean and standard deviation of the VAE's posterior, unscaled: (B, 2, *latent_shape) float32.

        Args:
            images: (B, 3, D, D) in [-1, 1].
        """
        with self._vae_precision():
            found = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        return torch.stack([found.mean, found.std], dim=1).float()

    def draw(self, posterior: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return scaled latents (B, *latent_shape) of what :meth:`posterior` gave; ``noise`` as in :meth:`encode`."""
        mean, std = posterior.unbind(dim=1)
        latents = mean if noise is None else mean + std * noise.to(mean)
        return latents * self.vae.config.scaling_factor

    def loss(
        self,
        latents: Tensor,
        condition: Condition | None,
        noise: Tensor,
        timesteps: Tensor,
        prompts: Sequence[str] | None = None,
        drop: Tensor | None = None,
    ) -> Tensor:
        """Return each sample's denoising error (eq. 8); the target is that of the scheduler's prediction type.

        Args:
            latents: (B, *latent_shape) from :meth:`encode`.
            condition: one (B, W) per text encoder, whose gradient is kept; None for plain prompts.
            noise: like ``latents``, standard normal.
            timesteps: (B,) int64.
            prompts: B prompts with ``{}``; None is ``train_prompt`` for all.
            drop: (B,) bool, samples that get the empty prompt instead; None is none.

        Returns:
            (B,) mean squared errors.
        """
        text = self.embed(prompts or [self.config.train_prompt] * len(latents), condition)
        if drop is not None and bool(drop.any()):
            text = _mixed(drop, self._unconditional(""), text)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        prediction = self._denoise(noisy, timesteps, text)
        return diffusion_loss(prediction, self._target(latents, noise, timesteps))

    def encode_prompt(self, prompts: Sequence[str], condition: Condition | None = None) -> Tensor:
        """Return the (B, T, W) hidden states of :meth:`embed`."""
        return self.embed(prompts, condition).states

    def embed(self, prompts: Sequence[str], condition: Condition | None = None) -> EncodedPrompts:
        """Encode prompts, with a condition in place of the placeholder token's embedding.

        The condition enters through a hook on the text encoder's token embedding, with its gradient attached, before
        positions are added.

        Args:
            prompts: B texts. Each ``{}`` is a placeholder token.
            condition: one (B, W) per text encoder, or None to leave the placeholder's own embedding.

        Returns:
            What the UNet is told: last hidden states, for XL those before the last layer and the pooled embedding.

        Raises:
            UniEmoError: a condition is given and a prompt has no ``{}``, or the prompt is cut off before it.
        """
        outputs = self._encode_text(prompts, condition)
        states = torch.cat([output.hidden_states[-2] if self.xl else output[0] for output in outputs], dim=-1)
        return EncodedPrompts(states, outputs[-1][0] if self.xl else None)  # pooled: the last text encoder's, (B, P)

    def text_features(self, prompts: Sequence[str], condition: Condition | None = None) -> tuple[Tensor, ...]:
        """Return the text encoders' own summaries of prompts, in the space that CLIP's contrastive training made.

        Args:
            prompts: as in :meth:`embed`, as is ``condition``.
            condition: one (B, W) per text encoder, or None.

        Returns:
            One (B, P) per text encoder: the projected embedding where it has a projection, else the last hidden state
            at the end token.
        """
        outputs = self._encode_text(prompts, condition)
        return tuple(output.text_embeds if "text_embeds" in output else output.pooler_output for output in outputs)

    def _encode_text(self, prompts: Sequence[str], condition: Condition | None) -> list[Any]:
        """Return the output of each text encoder; for XL with all hidden states."""
        outputs = []
        for index, encoder in enumerate(self.text_encoders):
            device = embedding(encoder).weight.device
            pairs = [self._tokenize(prompt)[index] for prompt in prompts]
            ids = torch.stack([ids for ids, _ in pairs]).to(device)  # (B, T)
            slots = torch.stack([slots for _, slots in pairs])  # (B, T)
            entering: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if condition is not None:
                lacking = next((prompt for prompt, row in zip(prompts, slots, strict=True) if not row.any()), None)
                if lacking is not None:
                    raise UniEmoError(
                        f"a prompt must hold {SLOT} where the emotion goes, within {ids.shape[1] - 2} tokens; "
                        f'got {lacking!r}, write for example "a {SLOT} room"'
                    )
                entering = replaced(embedding(encoder), slots.to(device), condition[index])
            with entering:
                outputs.append(encoder(input_ids=ids, output_hidden_states=self.xl))
        return outputs

    def token_embedding(self, name: str) -> tuple[Tensor, ...]:
        """Return the mean token embedding of a name's tokens, one (W,) per text encoder."""
        found = []
        for tokenizer, encoder in zip(self.tokenizers, self.text_encoders, strict=True):
            weight = embedding(encoder).weight
            ids = tokenizer(name, add_special_tokens=False).input_ids
            found.append(weight[torch.tensor(ids, device=weight.device)].mean(dim=0))
        return tuple(found)

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
        """Generate one image per seed, whose noise depends on its own seed only.

        Args:
            condition: one (n, W) per text encoder, or None for plain prompts.
            prompts: n prompts, with ``{}`` where the condition goes.
            seeds: n seeds.
            steps: denoising steps; None is the configuration's.
            guidance: guidance scale; None is the configuration's.
            scheduler: class name of a diffusers scheduler; None is the configuration's.
            negative_prompt: prompt of the unconditional branch, which never sees the condition; none when empty, which
                XL takes for embeddings of zeros.
            batch_size: images denoised at once.

        Returns:
            (n, 3, H, W) float32 in [0, 1] on the CPU.

        Raises:
            UniEmoError: as :meth:`encode_prompt`, or prompts, seeds and condition of different number.
        """
        if len(prompts) != len(seeds) or (condition is not None and len(condition[0]) != len(seeds)):
            raise UniEmoError(
                f"prompts and conditions must be as many as seeds; got {len(prompts)} for {len(seeds)} seeds"
            )
        pipeline = assemble(
            self.unet,
            self.vae,
            self.text_encoders[0],
            self.tokenizers[0],
            make_scheduler(scheduler or self.config.scheduler, self.scheduler_config),
            *((self.text_encoders[1], self.tokenizers[1]) if self.xl else ()),
        )
        empty = self._unconditional(negative_prompt)
        images = []
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            chosen = None if condition is None else tuple(c[part] for c in condition)
            text = self.embed(prompts[part], chosen)
            embeds = {"prompt_embeds": text.states, "negative_prompt_embeds": empty.states.expand_as(text.states)}
            if text.pooled is not None and empty.pooled is not None:
                embeds["pooled_prompt_embeds"] = text.pooled
                embeds["negative_pooled_prompt_embeds"] = empty.pooled.expand_as(text.pooled)
            result = pipeline(
                **embeds,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                num_inference_steps=steps or self.config.steps,
                guidance_scale=self.config.guidance if guidance is None else guidance,
                output_type="latent",  # the pipelines decode in the UNet's precision
            )
            images.append(self._decode(result.images).cpu())
        return torch.cat(images) if images else torch.zeros(0, 3, self.image_size, self.image_size)

    def _decode(self, latents: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 images in [0, 1] of (B, *latent_shape) scaled latents."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        with self._vae_precision():
            parts = scaled.split(max(1, _DECODED_PIXELS // self.image_size**2))
            decoded = torch.cat([self.vae.decode(part, return_dict=False)[0] for part in parts])
        return (decoded.float() * 0.5 + 0.5).clamp(0, 1)

    def _vae_precision(self) -> contextlib.AbstractContextManager[Any]:
        """Keep mixed precision away from a VAE that overflows in it."""
        if not self.vae.config.force_upcast:
            return contextlib.nullcontext()
        return torch.autocast(self.vae.device.type, enabled=False)

    def _denoise(self, noisy: Tensor, timesteps: Tensor, text: EncodedPrompts) -> Tensor:
        """Return the UNet's (B, *latent_shape) prediction."""
        added = {}
        if text.pooled is not None:
            times = noisy.new_tensor([[self.image_size, self.image_size, 0, 0, self.image_size, self.image_size]])
            times = times.to(text.states.dtype).expand(len(noisy), -1)  # (B, 6)
            added["added_cond_kwargs"] = {"text_embeds": text.pooled, "time_ids": times}
        dtype = getattr(torch, self.config.dtype)
        return self.unet(noisy.to(dtype), timesteps, encoder_hidden_states=text.states, return_dict=False, **added)[0]

    def _unconditional(self, negative_prompt: str) -> EncodedPrompts:
        """Return what the unconditional branch is told, for one image."""
        text = self.embed([negative_prompt])
        if negative_prompt or not self.zeros_for_empty or text.pooled is None:
            return text
        return EncodedPrompts(torch.zeros_like(text.states), torch.zeros_like(text.pooled))

    def _target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the UNet is to predict."""
        kind = self.schedule.config.prediction_type
        if kind == "v_prediction":
            return self.schedule.get_velocity(latents, noise, timesteps)
        return noise if kind == "epsilon" else latents  # the third kind is "sample"


def _mixed(choose: Tensor, first: EncodedPrompts, second: EncodedPrompts) -> EncodedPrompts:
    """Return ``first``, of one prompt, where ``choose`` (B,) is true, else ``second``."""
    choose = choose.to(second.states.device)
    pooled = second.pooled
    if first.pooled is not None and pooled is not None:
        pooled = torch.where(choose[:, None], first.pooled, pooled)
    return EncodedPrompts(torch.where(choose[:, None, None], first.states, second.states), pooled)
