"""How much memory a training step needs on a GPU, computed where there is none.

    python -m benchmarks.memory --json benchmarks/memory.json  # ViT-L/14 and Stable Diffusion 1.5: three minutes
    python -m benchmarks.memory --check                        # how well the count meets what a process really takes

The step runs on PyTorch's fake tensors: each operation gives its shapes and types, no numbers and no memory. The bytes
of every tensor are counted from its making to its end, and the highest sum is what the arithmetic asks for at once:
weights, gradients, AdamW's averages, activations, what the backward pass makes. Attention is the memory-efficient one;
mixed precision normalises in float32, as it does on a GPU. Not seen are CUDA's own memory (half a GiB or so), kernels'
workspaces, and what the caching allocator loses to its blocks: the estimate adds 15 % for these.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.startup import EMOTIONS, SIZES
from benchmarks.timing import conditions, markdown, options, plain, sentence, write_json
from uniemo.models.attributes import Kind
from uniemo.models.diffusion import DiffusionBackbone, DiffusionConfig
from uniemo.models.diffusion.prompts import EncodedPrompts, embedding, replaced
from uniemo.models.encoder import EmotionFeatures, EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import Condition, contrastive_loss
from uniemo.models.uniemo import GenerationParts, UniEmoModel
from uniemo.modules.optim import OptimizerConfig, freeze, model_parameters, parameter_groups
from uniemo.vocabulary import Vocabulary

GIB = 2**30
CONTEXT, SHARE = 0.5, 0.15  # GiB of CUDA itself; what kernels and the allocator take beside the tensors, of their bytes


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive.

    Attributes:
        now: bytes alive.
        peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run an operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        self.add(made)
        return made

    def add(self, tensors: Any) -> None:  # noqa: ANN401 - any nest of them
        """Count tensors from now to their end; those that share their memory count once."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                storage = tensor.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._end, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)

    def _end(self, address: int, size: int) -> None:
        self._alive.discard(address)
        self.now -= size


@dataclass(frozen=True)
class Step:
    """A training step of stage 2.

    Attributes:
        clip: architecture of the image tower.
        diffusion: name of the diffusion model; None for stage 1, which has none.
        batch: B.
        mixed: train in mixed precision, bf16.
        dtype: of the frozen diffusion model.
        checkpointing: recompute the UNet's activations in the backward pass.
        encoder_checkpointing: recompute those of the image tower.
        tuned: learn CLIP's tower too, as the paper says; else it is frozen, as the recipe has it.
        encode: the VAE encodes the targets; else latents come from the cache.
    """

    clip: str = "random:ViT-L-14"
    diffusion: str | None = "random:sd15"
    batch: int = 8
    mixed: bool = True
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    checkpointing: bool = True
    encoder_checkpointing: bool = False
    tuned: bool = False
    encode: bool = False


def build(step: Step) -> UniEmoModel:
    """Build the model as the recipes do, with EmoSet's numbers of names."""
    names = [tuple(f"{kind} {number}" for number in range(SIZES[kind])) for kind in ("scene", "object")]
    generation = None
    if step.diffusion is not None:
        diffusion = DiffusionConfig(path=step.diffusion, dtype=step.dtype, checkpointing=step.checkpointing)
        generation = GenerationParts(diffusion=diffusion)
    model = UniEmoModel.build(
        Vocabulary(EMOTIONS, *names),
        EncoderConfig(clip=step.clip, query_length=32, checkpointing=step.encoder_checkpointing),
        HeadConfig(hidden=768),
        generation=generation,
        encode_names=False,  # their numbers do not matter here
    )
    freeze(model_parameters(model), rates(step))
    return model.train()


def rates(step: Step) -> OptimizerConfig:
    """Return learning rates; those that are 0 freeze."""
    return OptimizerConfig(lr_clip=1e-5 if step.tuned else 0.0)


def embed(diffusion: DiffusionBackbone, prompts: list[str], condition: Condition) -> EncodedPrompts:
    """Do what the diffusion model does for prompts, but look at no token's value: fake tensors have none."""
    states, pooled, xl = [], None, len(diffusion.text_encoders) > 1
    for encoder, own in zip(diffusion.text_encoders, condition, strict=True):
        ids = torch.zeros(len(prompts), encoder.config.max_position_embeddings, dtype=torch.int64)
        with replaced(embedding(encoder), ids > 0, own):
            output = encoder(input_ids=ids, output_hidden_states=xl)
        states.append(output.hidden_states[-2] if xl else output[0])
        pooled = output[0] if xl else None
    return EncodedPrompts(torch.cat(states, dim=-1), pooled)


def contrastive_losses(model: UniEmoModel, features: EmotionFeatures, labels: Tensor) -> Tensor:
    """Return L_S + L_O with scenes and objects that are the labels; which ones does not matter here."""
    kinds: tuple[Kind, Kind] = ("scene", "object")
    total = torch.zeros(())
    for kind, feature in zip(kinds, (features.scene, features.object), strict=True):
        projected = model.project(kind, feature)
        assert projected is not None
        total = total + contrastive_loss(projected, model.bank.text(kind), labels)
    return total


def train(model: UniEmoModel, optimizer: torch.optim.Optimizer, step: Step) -> None:
    """Take one step of training on a batch of the right shapes."""
    size = model.encoder.image_size
    images, labels = torch.zeros(step.batch, 3, size, size), torch.zeros(step.batch, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16, enabled=step.mixed):
        features = model.features(images)
        logits = model.logits(features)
        loss = F.cross_entropy(logits, labels) + contrastive_losses(model, features, labels)
        if step.diffusion is not None:
            loss = loss + generation_losses(model, features, logits, labels, step)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def generation_losses(
    model: UniEmoModel, features: EmotionFeatures, logits: Tensor, labels: Tensor, step: Step
) -> Tensor:
    """Return L_cond + L(θ)."""
    diffusion = model.diffusion
    assert diffusion is not None
    assert model.condition_loss is not None
    latents = torch.zeros(step.batch, *diffusion.latent_shape)
    if step.encode:
        side = diffusion.image_size
        latents = diffusion.encode(torch.zeros(step.batch, 3, side, side))
    condition = model.condition(features, labels)
    with patch.object(diffusion, "embed", partial(embed, diffusion)):
        error = diffusion.loss(latents, condition, torch.zeros_like(latents), labels).mean()
    return model.condition_loss(condition, labels, logits).mean() + error


def count(model: UniEmoModel, step: Step) -> dict[str, float]:
    """Return GiB at the highest moment of the second step; the first one makes AdamW's averages."""
    optimizer = torch.optim.AdamW(parameter_groups(model_parameters(model), rates(step)), foreach=True)
    live = LiveBytes()
    live.add([*model.parameters(), *model.buffers()])
    weights = live.now
    with live:
        train(model, optimizer, step)
        live.peak = kept = live.now
        train(model, optimizer, step)
    return {
        "weights": weights / GIB,
        "AdamW's averages": (kept - weights) / GIB,
        "gradients, activations and what they leave": (live.peak - kept) / GIB,
        "tensors at the highest moment": live.peak / GIB,
    }


def in_float32(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a normalisation that works in float32 whatever it is given, as under mixed precision on a GPU."""

    def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        weights = [given.float() if isinstance(given, Tensor) else given for given in args]
        return norm(x.float(), *weights, **kwargs)

    return run


def computed(step: Step) -> dict[str, float]:
    """Count a step without taking it; add what is no tensor."""
    model = build(step)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        patch("torch.nn.functional.group_norm", in_float32(F.group_norm)),
        patch("torch.nn.functional.layer_norm", in_float32(F.layer_norm)),
    ):
        model.to_empty(device="cpu")
        found = count(model, step)
    found["estimate with CUDA, kernels and allocator"] = found["tensors at the highest moment"] * (1 + SHARE) + CONTEXT
    return found


def check(step: Step) -> dict[str, float]:
    """Count a step while it really runs on the CPU, beside what the process took."""
    model = build(step)
    before = resident()
    found = count(model, step)
    grown = resident(peak=True) - before
    return {"counted beyond the weights": found["tensors at the highest moment"] - found["weights"], "taken": grown}


def resident(peak: bool = False) -> float:
    """Return the GiB of memory that this process holds, or held at most."""
    import resource

    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIB


def steps(clip: str, diffusion: str, batch: int) -> dict[str, Step]:
    """Return the steps of the table: of stage 2 with so many samples, of stage 1 with the paper's 128."""
    second, first = Step(clip, diffusion, batch), Step(clip, None, 128, tuned=True)
    return {
        f"stage 2, batch {batch}, bf16, UNet checkpointed": second,
        "… and the diffusion model in float32": replace(second, dtype="float32"),
        "… and the VAE encodes": replace(second, encode=True),
        "… and CLIP learns": replace(second, tuned=True),
        f"stage 2, batch {batch}, bf16": replace(second, checkpointing=False),
        "stage 1, batch 128, float32": replace(first, mixed=False),
        "stage 1, batch 128, bf16": first,
        "stage 1, batch 128, bf16, encoder checkpointed": replace(first, encoder_checkpointing=True),
    }


def main() -> None:
    """Count the steps, print, and write JSON if asked."""
    parser = options(__doc__)
    parser.add_argument("--diffusion", default="random:sd15", help="name of the diffusion model (default: %(default)s)")
    parser.add_argument("--clip", default="random:ViT-L-14", help="architecture (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="samples in a step of stage 2 (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="really run a step of stage 2 in float32 on the CPU")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    where = conditions()
    if given.check:
        found = check(Step(given.clip, given.diffusion, given.batch, mixed=False, dtype="float32"))
        print({name: round(size, 2) for name, size in found.items()}, "GiB")
        return
    sizes = {}
    for name, step in steps(given.clip, given.diffusion, given.batch).items():
        sizes[name] = computed(step)
        print(f"{name}: {sizes[name]['tensors at the highest moment']:.2f} GiB", file=sys.stderr, flush=True)
    heads = list(next(iter(sizes.values())))
    table = [["GiB", *heads], *([name, *(f"{row[head]:.2f}" for head in heads)] for name, row in sizes.items())]
    title = f"memory of a training step, computed: {given.clip}, {given.diffusion}"
    print("\n\n".join([title, plain(table), sentence(where), markdown(table)]))
    if given.json is not None:
        write_json(given.json, {"title": title, "conditions": where, "GiB": sizes})


if __name__ == "__main__":
    main()
