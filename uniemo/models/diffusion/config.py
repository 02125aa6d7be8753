"""The choices about the diffusion model that a configuration holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from uniemo.errors import Guidance, Range, Share, Steps, Width, check_ranges


@dataclass
class DiffusionConfig:
    """The diffusion model and how it is used.

    Attributes:
        path: ``miniature:diffusion``, a folder in diffusers' layout (Stable Diffusion 1, 2, XL, 3 and 3.5, Sana), a
            single .safetensors file (Stable Diffusion 1 or XL) or a name on the hub; behind ``random:`` without
            weights, see :func:`uniemo.models.diffusion.loading.find_diffusion`.
        placeholder: word whose single token stands where the condition goes; only its embedding is replaced, in each
            text encoder.
        train_prompt: prompt of training images, ``{}`` marks the placeholder.
        lora_rank: rank of adapters trained on the UNet's or transformer's attention; 0 for none.
        guidance: scale of classifier-free guidance; up to 1 is without.
        steps: denoising steps.
        scheduler: class name of a diffusers scheduler, or a name in :data:`uniemo.models.diffusion.schedulers.NAMED`.
        drop_condition: share of training samples whose prompt is empty, for guidance; 0 relies on the pre-trained
            model's own unconditional branch.
        dtype: precision of the frozen UNet or transformer and text encoders; the VAE stays in float32 unless its
            configuration says that it need not.
        image_size: side of the images in pixels, for models that take several sizes; None is the model's own.
        adapter: .safetensors file of a published LoRA (LCM, Lightning, Hyper …) to be merged into the network when it
            is loaded.
        checkpointing: recompute the activations of UNet or transformer and of the text encoders in the backward pass:
            much less memory, a third more time.
        text_on_cpu: keep the text encoders in main memory and run them there: none of their bytes on the GPU. A plain
            prompt is encoded once and kept, so that methods without a condition (prompted, dreambooth) lose no time;
            with a condition each step waits for the CPU.
        vae_slicing: encode and decode one image after the other.
        vae_tiling: encode and decode an image in overlapping tiles; borders are blended, pixels differ slightly.
        compile: compile the UNet or transformer (``torch.compile``): minutes at the start, then faster steps.
        family: class path of a :class:`DiffusionBackbone` of your own; None goes by the model's files.
    """

    path: str = "miniature:diffusion"
    placeholder: str = "*"
    train_prompt: str = "{}"
    lora_rank: Annotated[int, Range(0, 2**16)] = 0
    guidance: Guidance = 7.5
    steps: Steps = 50
    scheduler: str = "UniPCMultistepScheduler"
    drop_condition: Share = 0.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    image_size: Width | None = None
    adapter: str | None = None
    checkpointing: bool = False
    text_on_cpu: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False
    compile: bool = False
    family: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.diffusion.")
