"""One step of two ranks has the gradients of one process with all images, for every module and every loss."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.distributed.crew import enough_cores, on_ranks
from tests.tiny_runs import assets
from uniemo.data import EmoSet
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import ConditionLossConfig, build_condition_loss
from uniemo.modules import FeedbackModule, JointModule, UnderstandingModule
from uniemo.modules.optim import OptimizerConfig, freeze, model_parameters
from uniemo.modules.stage_losses import LossConfig

pytestmark = pytest.mark.skipif(not enough_cores, reason="two processes need two cores")

IMAGES = 7
HALVES, UNEVEN = (4, 3), (6, 1)


class Step(nn.Module):
    """What DDP wraps: a module's loss."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, batch):
        return self.module.losses(batch)


def cut(batch, first, last):
    """Return images first … last of a batch."""
    values = {name: value if value is None else value[first:last] for name, value in vars(batch).items()}
    return replace(batch, **values)


def some_lack_attributes(batch):
    """Scene and object on a part of the images, on both ranks."""
    batch.scene = torch.tensor([0, -1, 0, 1, 2, -1, 1])
    batch.objects[torch.tensor([1, 4])] = False


def last_rank_lacks_attributes(batch):
    """No scene and no object on the images from the fifth on; of two ranks (4, 3) the second has none at all."""
    batch.scene = torch.tensor([0, 1, 0, -1, -1, -1, -1])
    batch.objects[4:] = False


def nobody_has_attributes(batch):
    batch.scene[:] = -1
    batch.objects[:] = False


def some_are_generated(batch):
    """Generated images among real ones, as in stage 3: no attributes whatever their labels say."""
    batch.generated = torch.tensor([False, True, False, False, True, True, True])


def some_are_rated(batch):
    """Valence and arousal of four images, on both ranks."""
    batch.affect = torch.tensor([[2.0, 7.0], [4, 3], [torch.nan] * 2, [8, 4], [torch.nan] * 2, [3, 3], [torch.nan] * 2])


def last_rank_is_not_rated(batch):
    """Valence and arousal of the first four images."""
    some_are_rated(batch)
    batch.affect[4:] = torch.nan


FORMS = [(form, duplicates) for form in ("image_to_text", "symmetric") for duplicates in ("positive", "negative")]
CASES = {
    f"understanding, {form}, {duplicates}, {shares}": (
        *("understanding", shares, some_lack_attributes),
        {"form": form, "duplicates": duplicates},
    )
    for form, duplicates in FORMS
    for shares in (HALVES, UNEVEN)
}
CASES |= {
    "understanding, all have attributes": ("understanding", HALVES, None, {}),
    "understanding, a rank without": ("understanding", HALVES, last_rank_lacks_attributes, {"form": "symmetric"}),
    "understanding, nobody has": ("understanding", HALVES, nobody_has_attributes, {"form": "symmetric"}),
    "understanding, valence and arousal": ("rated", HALVES, some_are_rated, {}),
    "understanding, valence and arousal, uneven": ("rated", UNEVEN, some_are_rated, {}),
    "understanding, valence and arousal of one rank": ("rated", HALVES, last_rank_is_not_rated, {}),
    "joint, prototype": ("joint", HALVES, None, {}),
    "joint, prototype, uneven": ("joint", UNEVEN, some_lack_attributes, {}),
    "joint, triplet": ("joint", UNEVEN, last_rank_lacks_attributes, {"condition": "triplet"}),
    "joint, cross entropy": ("joint", UNEVEN, None, {"condition": "cross_entropy"}),
    "joint, dropped conditions": ("joint", HALVES, None, {"drop_condition": 0.5}),
    "joint, nearly all dropped": ("joint", UNEVEN, None, {"drop_condition": 0.9}),
    "joint, literal": ("joint", UNEVEN, some_lack_attributes, {"form": "symmetric", "duplicates": "negative"}),
    "feedback": ("feedback", HALVES, some_are_generated, {}),
    "feedback, symmetric": ("feedback", UNEVEN, some_are_generated, {"form": "symmetric"}),
}


def build(stage):
    """Return a module with everything that can learn set to learn, on the tiny networks."""
    clip, diffusion = str(assets() / "clip"), str(assets() / "diffusion")
    common = {
        "encoder": EncoderConfig(clip=clip, query_length=2),
        "head": HeadConfig(hidden=16, dropout=0.0),  # dropout is each rank's own
        "optimizer": OptimizerConfig(lr_clip=1e-5),
    }
    names = data().vocabulary
    if stage == "rated":
        names = replace(names, affect=(1.0, 9.0))
    if stage in ("understanding", "rated"):
        module = UnderstandingModule(**common)
    else:
        kind = JointModule if stage == "joint" else FeedbackModule
        module = kind(**common, diffusion=DiffusionConfig(path=diffusion))
    module.build(names)
    bank = module.model.bank
    bank.set_tables(*(torch.rand(len(text), 8).softmax(dim=1) for text in (bank.scene_text, bank.object_text)))
    return module.train()


def data():
    return EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=32, batch_size=IMAGES)


def settle(module, options):
    """Apply a case's options."""
    forms = {name: value for name, value in options.items() if name in ("form", "duplicates")}
    module.loss = LossConfig(**forms)
    model = module.model
    if model.diffusion is not None:
        kind = options.get("condition", "prototype")
        init = zip(*(model.diffusion.token_embedding(name) for name in model.vocabulary.emotions), strict=True)
        torch.manual_seed(1)
        model.condition_loss = build_condition_loss(ConditionLossConfig(kind=kind), [torch.stack(c) for c in init])
        model.diffusion.config = replace(model.diffusion.config, drop_condition=options.get("drop_condition", 0.0))
        freeze(model_parameters(model), module.optimizer)


def gradients(module, step, batch):
    """Return loss terms and gradients of one step."""
    module.zero_grad(set_to_none=True)
    total, terms = step(batch)
    total.backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.requires_grad}
    return {**{name: value.detach() for name, value in terms.items()}, "total": total.detach()}, found


@pytest.fixture(scope="module")
def found():
    """By case: what one process finds, and what each of two ranks does."""
    whole = next(iter(data().train_dataloader()))
    whole.objects[:] = torch.arange(16) % 3 == torch.arange(IMAGES)[:, None] % 3  # one of five or six is drawn
    modules = {stage: build(stage) for stage in ("understanding", "rated", "joint", "feedback")}

    def batch_of(change):
        batch = replace(whole, **{name: whole.__dict__[name].clone() for name in ("scene", "objects", "generated")})
        if change is not None:
            change(batch)
        return batch

    def alone():
        results = {}
        for name, (stage, _, change, options) in CASES.items():
            module = modules[stage]
            settle(module, options)
            results[name] = gradients(module, Step(module), batch_of(change))
        return results

    def member(rank):
        results = {}
        for name, (stage, shares, change, options) in CASES.items():
            module = modules[stage]
            settle(module, options)
            first = sum(shares[:rank])
            mine = cut(batch_of(change), first, first + shares[rank])
            results[name] = gradients(module, DistributedDataParallel(Step(module)), mine)
        return results

    return alone(), on_ranks(member)


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_two_ranks(found, case):
    one, two = found
    terms, expected = one[case]
    (first_terms, first), (second_terms, second) = (part[case] for part in two)
    assert set(first) == set(second) == set(expected)
    for name, value in terms.items():  # each rank has its part of a mean
        assert torch.allclose((first_terms[name] + second_terms[name]) / 2, value, rtol=1e-4, atol=1e-6), name
    for name, gradient in expected.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-9), name
    moved = sum(bool(gradient.any()) for gradient in expected.values())
    assert moved > 0.7 * len(expected)
