import pytest
import torch
import torch.nn.functional as F

from uniemo.errors import UniEmoError
from uniemo.models.fusion import ConditionFusion, FusionConfig


def features(batch=5, width=8):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(batch, width, generator=generator) for name in ("cls", "scene", "object", "patch")}


def by_hand(mapper, x):
    return (F.layer_norm(x, x.shape[-1:]) @ mapper[0].weight.T + mapper[0].bias).clamp(min=0) @ mapper[
        2
    ].weight.T + mapper[2].bias


def test_equation_6_for_each_text_encoder():
    fusion = ConditionFusion(FusionConfig(hidden=6), 8, (4, 7))
    given = features()
    alpha_scene, alpha_object = torch.rand(5), torch.rand(5)
    result = fusion(**given, alpha_scene=alpha_scene, alpha_object=alpha_object)
    assert [c.shape for c in result] == [(5, 4), (5, 7)]
    for index, c in enumerate(result):
        parts = {name: by_hand(fusion.mappers[name][index], given[name]) for name in ("cls", "scene", "object")}
        assert torch.allclose(
            c, parts["cls"] + alpha_scene[:, None] * parts["scene"] + alpha_object[:, None] * parts["object"], atol=1e-6
        )


def test_without_correlation_the_coefficients_are_one():
    fusion = ConditionFusion(FusionConfig(correlation=False), 8, (4,))
    given = features()
    with_alpha = fusion(**given, alpha_scene=torch.zeros(5), alpha_object=torch.zeros(5))[0]
    assert torch.equal(with_alpha, fusion(**given)[0])


@pytest.mark.parametrize(
    "tokens", [("cls",), ("cls", "patch"), ("scene", "object"), ("cls", "patch", "scene", "object")]
)
def test_only_named_tokens_matter(tokens):
    fusion = ConditionFusion(FusionConfig(tokens=tokens), 8, (4,))
    given = features()
    before = fusion(**given)[0]
    for name in given:
        changed = fusion(**{**given, name: torch.randn(5, 8)})[0]
        assert torch.equal(changed, before) == (name not in tokens)


@pytest.mark.parametrize("tokens", [("cls",), ("cls", "scene", "object")])
def test_starts_at_the_length_of_token_embeddings(tokens):
    torch.manual_seed(0)
    fusion = ConditionFusion(FusionConfig(tokens=tokens), 64, (32, 48), token_norms=(0.4, 3.0))
    for c, norm in zip(fusion(**features(200, 64)), (0.4, 3.0), strict=True):
        assert float(c.detach().norm(dim=-1).mean()) == pytest.approx(norm, rel=0.1)


def test_without_normalisation_it_is_the_plain_mapper():
    fusion = ConditionFusion(FusionConfig(tokens=("cls",), normalize=False), 8, (4,))
    given = features()
    assert torch.allclose(fusion(**given)[0], fusion.mappers["cls"][0](given["cls"]))


@pytest.mark.parametrize("tokens", [(), ("cls", "sound")])
def test_bad_tokens(tokens):
    with pytest.raises(UniEmoError, match=r"fusion\.tokens"):
        ConditionFusion(FusionConfig(tokens=tokens), 8, (4,))
