"""One training step at true shapes with random weights, in its own process: ``python -m tests.paper.dry_run NAME``.

Recipes and overlays are those of configs/paper, with ``random:`` before the networks' names. The output's last line is
JSON: losses, seconds and the process's peak memory.
"""

import contextlib
import dataclasses
import json
import resource
import sys
import time

import torch
import yaml

from uniemo.checkpoint import make_config
from uniemo.configurations import CONFIGURATIONS as PACKAGED
from uniemo.data.batch import EmotionBatch
from uniemo.models.attributes import AttributeConfig
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpaceConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.fusion import FusionConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import ConditionLossConfig
from uniemo.modules import JointModule, UnderstandingModule
from uniemo.modules.optim import OptimizerConfig, model_parameters, parameter_groups
from uniemo.modules.stage_losses import LossConfig
from uniemo.taxonomy import MIKELS_8
from uniemo.vocabulary import Vocabulary

VOCABULARY = Vocabulary(MIKELS_8, ("beach", "amusement_park", "graveyard"), ("balloon", "eagle", "skull"))
PARTS = {
    "encoder": EncoderConfig,
    "head": HeadConfig,
    "attributes": AttributeConfig,
    "fusion": FusionConfig,
    "condition": ConditionLossConfig,
    "diffusion": DiffusionConfig,
    "space": EmotionSpaceConfig,
    "optimizer": OptimizerConfig,
    "loss": LossConfig,
}


def merged(whole, part):
    """Return nested dictionaries put over each other."""
    if not (isinstance(whole, dict) and isinstance(part, dict)):
        return part
    return whole | {key: merged(whole.get(key), value) for key, value in part.items()}


def paper(*names):
    """Return the configuration of a recipe of configs/paper and overlays, networks named random."""
    config = {}
    for name in names:
        config = merged(config, yaml.safe_load((PACKAGED / "paper" / f"{name}.yaml").read_text()))
    model = config["model"]["init_args"]
    model["encoder"]["clip"] = f"random:{model['encoder']['clip']}"
    if "diffusion" in model:
        model["diffusion"]["path"] = f"random:{model['diffusion']['path']}"
    return config


def batch_of(size, image_size, diffusion_size):
    """Return a batch of noise, labelled."""
    draw = torch.Generator().manual_seed(0)
    targets = None
    if diffusion_size is not None:
        targets = torch.rand(size, 3, diffusion_size, diffusion_size, generator=draw) * 2 - 1
    index = torch.arange(size)
    objects = torch.zeros(size, len(VOCABULARY.objects), dtype=torch.bool)
    objects[index, index % len(VOCABULARY.objects)] = True
    return EmotionBatch(
        images=torch.randn(size, 3, image_size, image_size, generator=draw),
        targets=targets,
        emotion=index % len(MIKELS_8),
        scene=index % len(VOCABULARY.scenes),
        objects=objects,
        generated=torch.zeros(size, dtype=torch.bool),
        sample_id=index,
        names=[f"{number}.jpg" for number in range(size)],
    )


def step(kind, config, size):
    """Build a module and take one step of its optimiser."""
    model = config["model"]["init_args"]
    module = kind(**{name: make_config(PARTS[name], values) for name, values in model.items()})
    start = time.perf_counter()
    module.build(VOCABULARY)
    built = time.perf_counter()
    tables = [torch.full((len(names), 8), 1 / 8) for names in (VOCABULARY.scenes, VOCABULARY.objects)]
    module.model.bank.set_tables(*tables)
    module.train()
    optimizer = torch.optim.AdamW(parameter_groups(model_parameters(module.model), module.optimizer))
    data = config["data"]["init_args"]
    loss, terms = module.losses(batch_of(size, data["image_size"], data["diffusion_size"]))
    loss.backward()
    learning = {group["name"]: group["params"] for group in optimizer.param_groups}
    lacking = [name for name, group in learning.items() if not any(p.grad is not None and p.grad.any() for p in group)]
    before = {name: group[0].detach().clone() for name, group in learning.items()}
    optimizer.step()
    changed = [name for name, group in learning.items() if not torch.equal(before[name], group[0])]
    return {
        "loss": float(loss.detach()),
        "terms": {name: float(value.detach()) for name, value in terms.items()},
        "groups": sorted(learning),
        "without_gradient": lacking,
        "changed": sorted(changed),
        "trained_millions": round(sum(p.numel() for g in learning.values() for p in g) / 1e6, 1),
        "all_millions": round(sum(p.numel() for p in module.parameters()) / 1e6, 1),
        "build_seconds": round(built - start, 1),
        "step_seconds": round(time.perf_counter() - built, 1),
    }


def stage1():
    """ViT-L/14 at 224 pixels, all parts learn, batch 4."""
    return step(UnderstandingModule, paper("understanding", "vit_l14"), 4)


def stage2():
    """ViT-L/14 at 224 and Stable Diffusion 1.5 at 512 pixels in float32, all parts but diffusion learn, batch 2."""
    config = paper("joint", "vit_l14", "sd15")
    config["model"]["init_args"]["diffusion"]["checkpointing"] = True
    return step(JointModule, config, 2)


def sdxl():
    """ViT-L/14 and Stable Diffusion XL at 1024 pixels in bfloat16, released rates (CLIP frozen), batch 1."""
    return step(JointModule, paper("joint", "vit_l14", "sdxl", "released", "released_joint"), 1)


@contextlib.contextmanager
def unet_on_meta():
    """Build UNets without their weights."""
    import diffusers

    build = diffusers.UNet2DConditionModel.from_config

    def build_meta(config, **options):
        with torch.device("meta"):
            return build(config, **options)

    diffusers.UNet2DConditionModel.from_config = build_meta
    try:
        yield
    finally:
        diffusers.UNet2DConditionModel.from_config = build


def sdxl_meta():
    """Stage 2 of ViT-L/14 and Stable Diffusion XL at 1024 pixels as a whole, on the meta device: no numbers, batch 2.

    Encoder, head, losses, both mappers, VAE, both text encoders and UNet: forward, backward and one optimiser step.
    """
    config = paper("joint", "vit_l14", "sdxl")
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    module = JointModule(**{name: make_config(PARTS[name], values) for name, values in model.items()})
    start = time.perf_counter()
    with unet_on_meta():
        module.build(VOCABULARY)
    built = time.perf_counter()
    module.to("meta").train()
    diffusion = module.model.diffusion
    diffusion._vae_precision = contextlib.nullcontext  # mixed precision, which it turns off, knows no meta device
    told, conditions = [], []
    diffusion.unet.register_forward_pre_hook(
        lambda _, inputs, named: told.append((inputs[0], named)) if not told else None, with_kwargs=True
    )

    def keep(module, inputs, output):
        conditions.extend(output)
        for condition in output:
            condition.retain_grad()

    module.model.fusion.register_forward_hook(keep)
    optimizer = torch.optim.AdamW(parameter_groups(model_parameters(module.model), module.optimizer))
    batch = batch_of(2, data["image_size"], data["diffusion_size"])
    images = {name: getattr(batch, name).to("meta") for name in ("images", "targets", "emotion", "scene", "objects")}
    batch = dataclasses.replace(batch, **images, generated=batch.generated.to("meta"))
    loss, terms = module.losses(batch)
    loss.backward()
    optimizer.step()
    noisy, named = told[0]
    shapes = {"latents": noisy, "states": named["encoder_hidden_states"], **named["added_cond_kwargs"]}
    return {
        "terms": sorted(terms),
        "unet": {name: [list(value.shape), str(value.dtype)] for name, value in shapes.items()},
        "condition_gradients": [list(own.grad.shape) for own in conditions],
        "groups": sorted(group["name"] for group in optimizer.param_groups),
        "without_gradient": [
            name
            for name, parameter in module.model.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ],
        "vae": str(diffusion.vae.dtype),
        "unet_millions": round(sum(p.numel() for p in diffusion.unet.parameters()) / 1e6, 1),
        "build_seconds": round(built - start, 1),
        "step_seconds": round(time.perf_counter() - built, 1),
    }


RUNS = {"stage1": stage1, "stage2": stage2, "sdxl": sdxl, "sdxl_meta": sdxl_meta}


def main():
    """Run the named dry run and print its JSON."""
    with contextlib.redirect_stdout(sys.stderr):
        found = RUNS[sys.argv[1]]()
    found["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    print(json.dumps({"run": sys.argv[1], **found}))


if __name__ == "__main__":
    main()
