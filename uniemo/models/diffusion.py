"""The frozen diffusion model: encodes images, takes a condition as a token, tells its loss (eq. 8) and generates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.models.lora import add_lora
from uniemo.models.losses import Condition, diffusion_loss
from uniemo.models.pipeline import assemble, load_pipeline, make_scheduler
from uniemo.resources import resolve

SLOT = "{}"  # where a prompt takes the condition


@dataclass
class DiffusionConfig:
    """The diffusion model and how it is used.

    Attributes:
        path: ``miniature:diffusion`` or a Stable Diffusion folder in diffusers' layout.
        placeholder: word whose single token stands where the condition goes; only its embedding is replaced.
        train_prompt: prompt of training images, ``{}`` marks the placeholder.
        lora_rank: rank of adapters trained on the UNet's attention; 0 for none.
        guidance: scale of classifier-free guidance; up to 1 is without.
        steps: denoising steps.
        scheduler: class name of a diffusers scheduler.
        drop_condition: share of training samples whose prompt is empty, for guidance; 0 relies on the pre-trained
            model's own unconditional branch.
    """

    path: str = "miniature:diffusion"
    placeholder: str = "*"
    train_prompt: str = "{}"
    lora_rank: int = 0
    guidance: float = 7.5
    steps: int = 50
    scheduler: str = "UniPCMultistepScheduler"
    drop_condition: float = 0.0


class DiffusionBackbone(nn.Module):
    """A Stable Diffusion model, frozen and always in eval mode; gradients pass through it to the condition.

    Args:
        config: the choices.

    Attributes:
        image_size: side of its square images in pixels.
        latent_shape: (channels, height, width) of its latents.
        num_timesteps: of the training schedule; timesteps are 0 to ``num_timesteps`` - 1.
        token_widths: W, width of the token embeddings, of each text encoder.
        token_norms: mean length of the token embeddings of each text encoder.

    Raises:
        UniEmoError: a folder with a file missing, a placeholder that is not one token, or an unknown scheduler.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        pipeline = load_pipeline(resolve(config.path))
        self.config = config
        # the folder may hold half precision
        self.vae, self.unet = pipeline.vae.float(), pipeline.unet.float()
        self.text_encoders = nn.ModuleList([pipeline.text_encoder.float()])
        self.tokenizers = [pipeline.tokenizer]
        self.scheduler_config = dict(pipeline.scheduler.config)
        self.schedule = make_scheduler("DDPMScheduler", self.scheduler_config)
        make_scheduler(config.scheduler, self.scheduler_config)  # an unknown name is an error before any work
        self.requires_grad_(False)
        if config.lora_rank > 0:
            add_lora(self.unet, config.lora_rank)
        self.eval()

        size = self.unet.config.sample_size
        self.latent_shape = (self.unet.config.in_channels, size, size)
        self.image_size = size * pipeline.vae_scale_factor
        self.num_timesteps = int(self.schedule.config.num_train_timesteps)
        weights = [_embedding(encoder).weight.float() for encoder in self.text_encoders]
        self.token_widths = tuple(weight.shape[1] for weight in weights)
        self.token_norms = tuple(float(weight.norm(dim=1).mean()) for weight in weights)
        self._placeholders = [self._placeholder(tokenizer) for tokenizer in self.tokenizers]
        self._token_cache: dict[str, list[tuple[Tensor, Tensor]]] = {}

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
            (B, *latent_shape).
        """
        posterior = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        latents = posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(posterior.mean)
        return latents * self.vae.config.scaling_factor

    def loss(
        self,
        latents: Tensor,
        condition: Condition,
        noise: Tensor,
        timesteps: Tensor,
        prompts: Sequence[str] | None = None,
        drop: Tensor | None = None,
    ) -> Tensor:
        """Return each sample's denoising error (eq. 8); the target is that of the scheduler's prediction type.

        Args:
            latents: (B, *latent_shape) from :meth:`encode`.
            condition: one (B, W) per text encoder; its gradient is kept.
            noise: like ``latents``, standard normal.
            timesteps: (B,) int64.
            prompts: B prompts with ``{}``; None is ``train_prompt`` for all.
            drop: (B,) bool, samples that get the empty prompt instead; None is none.

        Returns:
            (B,) mean squared errors.
        """
        text = self.encode_prompt(prompts or [self.config.train_prompt] * len(latents), condition)  # (B, T, W)
        if drop is not None and bool(drop.any()):
            text = torch.where(drop[:, None, None].to(text.device), self.encode_prompt([""]), text)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        prediction = self.unet(noisy, timesteps, encoder_hidden_states=text, return_dict=False)[0]
        return diffusion_loss(prediction, self._target(latents, noise, timesteps))

    def encode_prompt(self, prompts: Sequence[str], condition: Condition | None = None) -> Tensor:
        """Encode prompts, with a condition in place of the placeholder token's embedding.

        The condition enters through a hook on the text encoder's token embedding, with its gradient attached, before
        positions are added.

        Args:
            prompts: B texts. Each ``{}`` is a placeholder token.
            condition: one (B, W) per text encoder, or None to leave the placeholder's own embedding.

        Returns:
            (B, T, W) hidden states.

        Raises:
            UniEmoError: a condition is given and a prompt has no ``{}``, or the prompt is cut off before it.
        """
        states = []
        for index, encoder in enumerate(self.text_encoders):
            device = _embedding(encoder).weight.device
            pairs = [self._tokenize(prompt)[index] for prompt in prompts]
            ids = torch.stack([ids for ids, _ in pairs]).to(device)  # (B, T)
            slots = torch.stack([slots for _, slots in pairs])  # (B, T)
            if condition is None:
                states.append(encoder(input_ids=ids)[0])
                continue
            lacking = next((prompt for prompt, row in zip(prompts, slots, strict=True) if not row.any()), None)
            if lacking is not None:
                raise UniEmoError(
                    f"a prompt must hold {SLOT} where the emotion goes, within {ids.shape[1] - 2} tokens; "
                    f'got {lacking!r}, write for example "a {SLOT} room"'
                )
            with _replaced(_embedding(encoder), slots.to(device), condition[index]):
                states.append(encoder(input_ids=ids)[0])
        return torch.cat(states, dim=-1)

    def token_embedding(self, name: str) -> tuple[Tensor, ...]:
        """Return the mean token embedding of a name's tokens, one (W,) per text encoder."""
        found = []
        for tokenizer, encoder in zip(self.tokenizers, self.text_encoders, strict=True):
            weight = _embedding(encoder).weight
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
            negative_prompt: prompt of the unconditional branch, which never sees the condition.
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
        )
        empty = self.encode_prompt([negative_prompt])  # (1, T, W)
        images = []
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            chosen = None if condition is None else tuple(c[part] for c in condition)
            text = self.encode_prompt(prompts[part], chosen)
            result = pipeline(
                prompt_embeds=text,
                negative_prompt_embeds=empty.expand_as(text),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                num_inference_steps=steps or self.config.steps,
                guidance_scale=self.config.guidance if guidance is None else guidance,
                output_type="pt",
            )
            images.append(result.images.float().cpu())
        return torch.cat(images) if images else torch.zeros(0, 3, self.image_size, self.image_size)

    def _target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the UNet is to predict."""
        kind = self.schedule.config.prediction_type
        if kind == "v_prediction":
            return self.schedule.get_velocity(latents, noise, timesteps)
        return noise if kind == "epsilon" else latents  # the third kind is "sample"

    def _placeholder(self, tokenizer: Any) -> int:  # noqa: ANN401 - transformers is imported late
        ids = tokenizer(self.config.placeholder, add_special_tokens=False).input_ids
        if len(ids) != 1 or ids[0] in tokenizer.all_special_ids:
            raise UniEmoError(
                f"diffusion.placeholder must be one token of the tokenizer; {self.config.placeholder!r} is {len(ids)} "
                f"or unknown, take a short common word"
            )
        return ids[0]

    def _tokenize(self, prompt: str) -> list[tuple[Tensor, Tensor]]:
        """Return token ids (T,) and placeholder positions (T,) bool for each tokenizer.

        The text around the placeholders is tokenized piece by piece, so that neighbouring characters cannot change the
        placeholder's token.
        """
        if prompt not in self._token_cache:
            found = []
            for tokenizer, placeholder in zip(self.tokenizers, self._placeholders, strict=True):
                length = tokenizer.model_max_length
                ids: list[int] = []
                slots: list[int] = []
                for number, piece in enumerate(prompt.split(SLOT)):
                    if number:
                        slots.append(len(ids) + 1)  # behind the start token
                        ids.append(placeholder)
                    ids += tokenizer(piece, add_special_tokens=False).input_ids if piece.strip() else []
                ids = [tokenizer.bos_token_id, *ids[: length - 2], tokenizer.eos_token_id]
                ids += [tokenizer.pad_token_id] * (length - len(ids))
                mask = torch.zeros(length, dtype=torch.bool)
                mask[[slot for slot in slots if slot <= length - 2]] = True
                found.append((torch.tensor(ids), mask))
            if len(self._token_cache) >= 1024:
                self._token_cache.clear()
            self._token_cache[prompt] = found
        return self._token_cache[prompt]


def _embedding(encoder: Any) -> nn.Embedding:  # noqa: ANN401 - transformers is imported late
    """Return a text encoder's token embedding."""
    return encoder.get_input_embeddings()


@contextlib.contextmanager
def _replaced(embedding: nn.Module, slots: Tensor, condition: Tensor) -> Iterator[None]:
    """Make an embedding layer return ``condition`` (B, W) where ``slots`` (B, T) is true."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.where(slots.unsqueeze(-1), condition.to(output.dtype).unsqueeze(1), output)  # (B, T, W)

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
