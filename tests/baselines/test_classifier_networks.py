"""The networks of the baselines that classify, against CLIP itself and plain loops."""

import pytest
import torch
import torch.nn.functional as F

from tests.tiny_runs import assets
from uniemo import UniEmoError
from uniemo.baselines.base import ClipConfig
from uniemo.baselines.cocoop import CoCoOp, ConditionedContext
from uniemo.baselines.coop import CoOp, LearnedContext
from uniemo.baselines.fine_tune import FineTune
from uniemo.baselines.linear_probe import LinearClassifier, LinearProbe
from uniemo.baselines.towers import PromptedText, first_context
from uniemo.baselines.zero_shot import TEMPLATES, ZeroShot, ZeroShotNetwork
from uniemo.models.clip import load_clip
from uniemo.modules.optim import RateConfig
from uniemo.taxonomy import MIKELS_8
from uniemo.vocabulary import Vocabulary


@pytest.fixture
def clip():
    return load_clip(str(assets() / "clip"))


@pytest.fixture
def images():
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def unit(features):
    return features / features.norm(dim=-1, keepdim=True)


def test_context_of_word_embeddings_is_the_sentence(clip):
    """Vectors that are the words' own embeddings give what CLIP's text tower gives for the sentence."""
    length = len(clip.text.tokens(["a photo of"])[0].unique()) - 2  # without start and end
    context = first_context(clip.text, length, "a photo of")
    found = PromptedText(clip.text, MIKELS_8, length)(context[None, None])[0]
    expected = clip.text([f"a photo of {name}." for name in MIKELS_8])
    assert torch.allclose(found, unit(expected), atol=1e-5)


def test_context_by_class_and_image(clip):
    context = torch.randn(2, 3, 4, 32)
    text = PromptedText(clip.text, MIKELS_8[:3], 4)
    together = text(context)
    for image in range(2):
        for label in range(3):
            alone = PromptedText(clip.text, [MIKELS_8[label]], 4)(context[image : image + 1, label : label + 1])
            assert torch.allclose(together[image, label], alone[0, 0], atol=1e-5)


def test_zero_shot_is_a_mean_over_prompts(clip, images):
    network = ZeroShotNetwork(clip, MIKELS_8, TEMPLATES)
    columns = []
    for name in MIKELS_8:
        mean = torch.stack([unit(clip.text([template.format(name)]))[0] for template in TEMPLATES]).mean(dim=0)
        columns.append(clip.logit_scale * unit(clip.visual(images)) @ unit(mean))
    assert torch.allclose(network(images), torch.stack(columns, dim=1), atol=1e-4)


def test_coop_without_training_is_zero_shot_with_its_prompt(clip, images):
    init = "a photo of"
    length = int(clip.text.tokens([init])[0].unique().numel()) - 2
    expected = ZeroShotNetwork(clip, MIKELS_8, [f"{init} {{}}."])(images)
    for class_specific in (False, True):
        network = LearnedContext(clip, MIKELS_8, length, class_specific, init)
        assert torch.allclose(network(images), expected, atol=1e-4)
        assert len(network.context) == (8 if class_specific else 1)
        F.cross_entropy(network(images), torch.arange(5)).backward()
        assert network.context.grad.any()


def test_cocoop_without_its_meta_net_is_coop(clip, images):
    torch.manual_seed(0)
    network = ConditionedContext(clip, MIKELS_8, 3, None, 4)
    assert [tuple(layer.weight.shape) for layer in network.meta[::2]] == [(4, 16), (32, 4)]
    plain = LearnedContext(clip, MIKELS_8, 3, False, None)
    plain.context.data = network.context.data[None]
    assert not torch.allclose(network(images), plain(images), atol=1e-2)
    for parameter in network.meta[2].parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.allclose(network(images), plain(images), atol=1e-4)


def test_cocoop_conditions_on_each_image_alone(clip, images):
    network = ConditionedContext(clip, MIKELS_8, 3, "a photo of", 4)
    together = network(images)
    for row, image in zip(together, images, strict=True):
        context = network.context + network.meta(network.tower.embed(image[None]))
        alone = LearnedContext(clip, MIKELS_8, 3, False, None)
        alone.context.data = context.detach()[None]
        assert torch.allclose(alone(image[None])[0], row, atol=1e-4)


@pytest.mark.parametrize("learns", [False, True])
def test_frozen_tower_is_run_without_gradient_and_stays_in_eval_mode(clip, images, learns):
    network = LinearClassifier(clip, 8, learns).train()
    assert network.tower.training == network.tower.visual.resblocks[0].training == learns
    network(images).sum().backward()
    touched = [parameter.grad is not None for parameter in network.tower.parameters()]
    assert any(touched) == learns
    assert network.head.weight.grad is not None
    assert network.tower(images).requires_grad == learns


def test_rates_of_fine_tuning():
    module = FineTune(ClipConfig(str(assets() / "clip")), RateConfig(lr=0.1, weight_decay=0.3), lr_head=0.2)
    module.build(Vocabulary(MIKELS_8))
    optimizer = module.optimizer.build(module.parameter_groups())
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.3}
    counts = [sum(value.numel() for value in group["params"]) for group in optimizer.param_groups]
    assert counts == [sum(value.numel() for value in module.model.tower.parameters()), 32 * 8 + 8]


def test_fine_tuning_with_the_head_of_the_stages():
    module = FineTune(ClipConfig(str(assets() / "clip")), hidden=8, dropout=0.25)
    module.build(Vocabulary(MIKELS_8))
    head = module.model.head
    assert [(layer.in_features, layer.out_features) for layer in (head.fc0, head.fc1)] == [(32, 8), (8, 8)]
    assert head.dropout.p == 0.25


def test_same_seed_same_first_weights():
    def first(seed):
        module = CoOp(ClipConfig(str(assets() / "clip")), context_length=4, seed=seed)
        module.build(Vocabulary(MIKELS_8))
        return module.model.context

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda clip: CoOp(clip, context_length=15),
            r"model\.context_length must be at most \d+, .*16 places.*; got 15",
        ),
        (lambda clip: CoOp(clip, context_length=0), r"model\.context_length must be at least 1; got 0"),
        (lambda clip: CoOp(clip, context_length=1, context_init="a photo of"), r"model\.context_init must be at most"),
        (lambda clip: CoCoOp(clip, reduction=0), r"model\.reduction must be at least 1; got 0"),
        (lambda clip: ZeroShot(clip, templates=("a photo",)), r"model\.templates must be prompts with \{\}"),
        (lambda clip: ZeroShot(clip, templates=()), r"model\.templates must be prompts"),
        (lambda clip: FineTune(clip, lr_head=0.0), r"model\.lr_head must be above 0"),
        (lambda clip: LinearProbe(clip, RateConfig(lr=0.0)), r"optimizer\.lr must be above 0"),
        (lambda clip: LinearProbe(clip, RateConfig(weight_decay=-1.0)), r"optimizer\.weight_decay must be at least 0"),
        (lambda clip: LinearProbe(clip, RateConfig(final=2.0)), r"model\.optimizer\.final must be at most 1; got 2"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UniEmoError, match=message):
        make(ClipConfig(str(assets() / "clip"))).build(Vocabulary(MIKELS_8))
