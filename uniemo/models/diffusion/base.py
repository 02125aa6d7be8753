"""The frozen diffusion model behind one interface: encode images, embed prompts with a condition, loss, generation.

A family of models (Stable Diffusion 1, XL, …) is one file with one subclass of :class:`DiffusionBackbone`. It names the
diffusers pipeline and its components, and implements how prompts are embedded (:meth:`DiffusionBackbone.embed`) and
what the denoising network is called with (:meth:`DiffusionBackbone.denoise`); anything else can be overridden where a
family differs. A family of the package has its line in :data:`uniemo.models.diffusion.loading.FAMILIES`; one of your
own is named by ``model.diffusion.family: my_module.MyFamily``.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from uniemo.errors import UniEmoError
from uniemo.models.diffusion.components import add_lora, assemble, quiet
from uniemo.models.diffusion.config import DiffusionConfig
from uniemo.models.diffusion.prompts import EncodedPrompts
from uniemo.models.diffusion.schedulers import make_noise, make_scheduler
from uniemo.models.diffusion.text import TextConditioned
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


class DiffusionBackbone(TextConditioned):
    """A frozen diffusion model, always in eval mode; gradients pass through it to the condition.

    Args:
        config: the choices.
        pipeline: the loaded diffusers pipeline, whose parts are taken over.

    Attributes:
        unet: the denoising network, whatever its architecture.
        image_size: side of its square images in pixels.
        latent_shape: (channels, height, width) of its latents.
        num_timesteps: of the training schedule; timesteps are 0 to ``num_timesteps`` - 1.

    Raises:
        UniEmoError: a placeholder that is not one token, an unknown scheduler or one that does not fit the model, or a
            size of images that the model cannot have.
    """

    pipeline_class: ClassVar[str]  # of diffusers; also how model_index.json names the family
    pipeline_options: ClassVar[dict[str, Any]] = {}  # further arguments of the pipeline
    denoiser: ClassVar[str] = "unet"  # the pipeline's name of the denoising network
    published: ClassVar[dict[str, Published]] = {}  # by name on the hub, or a short one for use without files
    configs: ClassVar[dict[str, dict[str, Any]]] = {}  # of the first by component, for use without files
    single_file_key: ClassVar[str] = ""  # a tensor that only single files of this family have
    call_options: ClassVar[dict[str, Any]] = {}  # further arguments where the pipeline generates

    def __init__(self, config: DiffusionConfig, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is imported late
        super().__init__(config, pipeline)
        self.options = dict(self.pipeline_options)
        dtype = getattr(torch, config.dtype)
        with quiet():  # the folder may hold another precision
            self.unet = getattr(pipeline, self.denoiser).to(dtype)
            self.vae = pipeline.vae.to(torch.float32 if pipeline.vae.config.get("force_upcast", True) else dtype)
        if getattr(self.vae.config, "latents_mean", None) is not None:
            raise UniEmoError(
                f"diffusion.path must have a VAE without latents_mean; {config.path!r} has one, give another"
            )
        self.scheduler_config = {**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__}
        self.noise = make_noise(self.scheduler_config)
        make_scheduler(config.scheduler, self.scheduler_config)  # an unknown name is an error before any work
        self.requires_grad_(False)
        if config.lora_rank > 0:
            add_lora(self.unet, config.lora_rank)
        if config.checkpointing:
            self.unet.enable_gradient_checkpointing()
        if config.vae_slicing:
            self.vae.enable_slicing()
        if config.vae_tiling:
            self.vae.enable_tiling()
        if config.compile:
            self.unet.compile()
        self.eval()

        scale = pipeline.vae_scale_factor
        self.image_size = config.image_size or self.unet.config.sample_size * scale
        if self.image_size % (2 * scale):
            raise UniEmoError(
                f"diffusion.image_size must be a multiple of {2 * scale} for this model; got {self.image_size}: "
                f"take {self.image_size // (2 * scale) * 2 * scale or 2 * scale}"
            )
        self.latent_shape = (self.unet.config.in_channels, self.image_size // scale, self.image_size // scale)
        self.num_timesteps = self.noise.num_timesteps
        self._offloaded: Any = None  # the pipeline that brings its networks to the device

    # of each family

    @abstractmethod
    def denoise(self, noisy: Tensor, timesteps: Tensor, text: EncodedPrompts) -> Tensor:
        """Return the network's (B, *latent_shape) prediction for noisy latents at its own timesteps (B,)."""

    # images and latents

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
        if not self.vae.config.get("force_upcast", True):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, enabled=False)

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
        text = self._text(prompts or [self.config.train_prompt] * len(latents), condition)
        if drop is not None:
            text = self._empty().where(drop, text)
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
            guidance: guidance scale, without the unconditional branch up to 1; None is the configuration's.
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
        scale = self.config.guidance if guidance is None else guidance
        empty = self._empty(negative_prompt) if scale > 1 else None
        images = []
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            text = self._text(prompts[part], None if condition is None else tuple(c[part] for c in condition))
            result = pipeline(
                **text.arguments(),
                **({} if empty is None else empty.arguments("negative_", len(text.states))),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                num_inference_steps=steps or self.config.steps,
                guidance_scale=scale,
                height=self.image_size,
                width=self.image_size,
                output_type="latent",  # the pipelines decode in the UNet's precision
                **self.call_options,
            )
            images.append(self.decode(result.images).cpu())
        return torch.cat(images) if images else torch.zeros(0, 3, self.image_size, self.image_size)

    # devices

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the denoising network runs."""
        return self._offloaded._execution_device if self._offloaded else self.unet.device

    def text_device(self) -> torch.device:
        """Return where the text encoders run."""
        return self.device if self._offloaded else super().text_device()

    def pipeline(self, scheduler: str | None = None) -> Any:  # noqa: ANN401
        """Return the diffusers pipeline of these networks; ``scheduler`` None is the configuration's."""
        chosen = make_scheduler(scheduler or self.config.scheduler, self.scheduler_config)
        if self._offloaded:
            self._offloaded.scheduler = chosen
            return self._offloaded
        parts = {self.denoiser: self.unet, "vae": self.vae, "scheduler": chosen}
        apart = self.text_device() != self.device  # a pipeline would run where any of its networks is
        for index, (encoder, tokenizer) in enumerate(zip(self.text_encoders, self.tokenizers, strict=True), start=1):
            end = "" if index == 1 else f"_{index}"
            parts |= {f"text_encoder{end}": None if apart else encoder, f"tokenizer{end}": tokenizer}
        return assemble(self.pipeline_class, {**parts, **self.options})

    def offload(self, kind: Literal["model", "sequential"], device: torch.device | str) -> None:
        """Keep the networks in main memory and bring to a device what runs, from now on; for generation alone.

        Args:
            kind: ``model`` brings whole networks one after the other, ``sequential`` each layer when it runs, which
                takes the least memory and many times as long.
            device: where they run; :meth:`to` no longer moves them.
        """
        self._offloaded = self.pipeline()
        if kind == "model":
            self._offloaded.enable_model_cpu_offload(device=device)
        else:
            self._offloaded.enable_sequential_cpu_offload(device=device)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> DiffusionBackbone:
        """Move or convert the networks (torch's own hook), unless they are offloaded."""
        return self if self._offloaded else super()._apply(fn, recurse)
