"""A training step and the making of an image, counted on shapes alone."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import torch

from uniemo.data.batch import EmotionBatch
from uniemo.estimate.counting import LiveBytes, operations, shapes_alone
from uniemo.modules.base import EmotionModule
from uniemo.vocabulary import Vocabulary

GIB = 2**30
CONTEXT, SHARE = 0.5, 0.15  # GiB of CUDA itself; of the tensors' bytes, what kernels and the allocator add
EMOSET = Vocabulary(  # as many names of each kind as its publication counts
    emotions=tuple(f"emotion {number}" for number in range(8)),
    scenes=tuple(f"scene {number}" for number in range(254)),
    objects=tuple(f"object {number}" for number in range(409)),
)


@dataclass(frozen=True)
class Count:
    """What running something takes.

    Attributes:
        memory: GiB at the highest moment, with CUDA, kernels and allocator.
        weights: GiB of all networks.
        work: floating-point operations.
    """

    memory: float
    weights: float
    work: float


@dataclass(frozen=True)
class StepSettings:
    """How a step is taken.

    Attributes:
        image_size: side R of the images that CLIP sees.
        precision: the trainer's.
        cached_latents: whether the VAE has encoded the images before.
    """

    image_size: int
    precision: str
    cached_latents: bool = False


class FakeModule:
    """A module whose networks have shapes alone; a context that holds while it runs.

    Args:
        module: as configured; weights by ``random:`` names.
        settings: how a step is taken.
        vocabulary: of the data.
    """

    def __init__(self, module: EmotionModule, settings: StepSettings, vocabulary: Vocabulary = EMOSET) -> None:
        self.module, self.settings = module, settings
        with shapes_alone():
            module.build(vocabulary)
            self.diffusion: Any = getattr(module.model, "diffusion", None)
            if self.diffusion is not None and self.diffusion.config.text_on_cpu:
                for encoder in self.diffusion.text_encoders:
                    encoder.to("meta")  # stands for main memory, whose bytes are not counted

    def training_step(self, batch_size: int) -> Count:
        """Count the second step of training, when the optimiser has its averages."""
        with self._counting() as (live, counter):
            self.module.model.train()
            weights = live.now
            optimizer = self.module.optimizer.build(self.module.parameter_groups())  # type: ignore[union-attr]
            batch = self._batch(batch_size)
            self._step(optimizer, batch)
            live.peak, before = live.now, counter.get_total_flops()
            self._step(optimizer, batch)
            return self._count(live, weights, counter.get_total_flops() - before)

    def image(self, batch_size: int, guidance: float, steps: int) -> Count:
        """Count the making of images: memory of a batch, operations of one image."""
        diffusion = self.diffusion
        with self._counting() as (live, counter), torch.no_grad():
            self.module.model.eval()
            weights = live.now
            branches = 2 if guidance > 1 else 1
            condition = tuple(torch.zeros(batch_size * branches, width) for width in diffusion.token_widths)
            text = diffusion.embed(["{}"] * len(condition[0]), condition).to(diffusion.device)
            embedded = counter.get_total_flops()
            latents = torch.zeros(len(condition[0]), *diffusion.latent_shape)
            diffusion.denoise(latents, torch.zeros(len(latents), dtype=torch.int64), text)
            denoised = counter.get_total_flops()
            diffusion.decode(latents[:batch_size])
            decoded = counter.get_total_flops() - denoised
            work = embedded + steps * (denoised - embedded) + decoded
            return self._count(live, weights, work / batch_size)

    def saved(self, offload: Literal["model", "sequential"]) -> float:
        """Return the GiB that offloading saves where images are generated: all but the largest network, or layer."""
        networks = [self.diffusion.unet, self.diffusion.vae, *self.diffusion.text_encoders]
        sizes = [sum(weight.nbytes for weight in network.parameters()) for network in networks]
        parts = [part for network in networks for part in network.modules()]
        layers = [sum(weight.nbytes for weight in part.parameters(recurse=False)) for part in parts]
        return (sum(sizes) - max(sizes if offload == "model" else layers)) / GIB * (1 + SHARE)

    @contextlib.contextmanager
    def _counting(self) -> Any:  # noqa: ANN401
        """Run on shapes alone, bytes and operations counted; what is there already is counted first."""
        live, counter = LiveBytes(), operations()
        with shapes_alone():
            live.add([*self.module.model.parameters(), *self.module.model.buffers()])
            with live, counter:
                yield live, counter

    def _batch(self, size: int) -> EmotionBatch:
        """Return a batch of the right shapes."""
        names, side = self.module.vocabulary, self.settings.image_size
        targets = latents = None
        if self.diffusion is not None and self.settings.cached_latents:
            latents = torch.zeros(size, 2, *self.diffusion.latent_shape)
        elif self.diffusion is not None:
            targets = torch.zeros(size, 3, self.diffusion.image_size, self.diffusion.image_size)
        return EmotionBatch(
            images=torch.zeros(size, 3, side, side),
            targets=targets,
            emotion=torch.zeros(size, dtype=torch.int64),
            scene=torch.zeros(size, dtype=torch.int64),
            objects=torch.zeros(size, len(names.objects), dtype=torch.bool),
            generated=torch.zeros(size, dtype=torch.bool),
            sample_id=torch.arange(size),
            names=[""] * size,
            latents=latents,
        )

    def _step(self, optimizer: torch.optim.Optimizer, batch: EmotionBatch) -> None:
        mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.settings.precision)
        with torch.autocast("cpu", mixed or torch.bfloat16, enabled=mixed is not None):
            loss, _ = self.module.losses(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    @staticmethod
    def _count(live: LiveBytes, weights: int, work: float) -> Count:
        return Count(live.peak / GIB * (1 + SHARE) + CONTEXT, weights / GIB, work)
