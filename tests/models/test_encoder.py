import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.models.clip import load_clip
from uniemo.models.encoder import EncoderConfig, ExpertQueryEncoder, _stages


@pytest.fixture
def make(clip_folder):
    def build(**choices):
        torch.manual_seed(0)
        return ExpertQueryEncoder(EncoderConfig(clip=clip_folder, query_length=4, **choices)).eval()

    return build


def tokens_per_layer(encoder, images):
    """How many tokens enter each layer."""
    seen = []
    handles = [
        block.ln_1.register_forward_hook(lambda m, i, o: seen.append(i[0].shape[1]))
        for block in encoder.visual.resblocks
    ]
    encoder(images)
    for handle in handles:
        handle.remove()
    return seen


def test_multi_stage_chain_is_equation_1_layer_by_layer(make, images):
    encoder = make()
    x = encoder.visual.embed(images)
    blocks = encoder.visual.resblocks
    scene = encoder.scene_query.expand(6, -1, -1)
    x = blocks[0](torch.cat([x, scene], 1))
    scene, _ = encoder.scene_block(x[:, 17:], x[:, :17])
    x = blocks[1](torch.cat([x[:, :17], scene, encoder.object_query.expand(6, -1, -1)], 1))
    objects, _ = encoder.object_block(x[:, 21:], x[:, :17])
    x = blocks[2](torch.cat([x[:, :21], objects], 1))

    features = encoder(images)
    assert torch.allclose(features.cls, encoder.visual.ln_post(x[:, 0]), atol=1e-5)
    assert torch.allclose(features.patches, x[:, 1:17], atol=1e-5)
    assert torch.allclose(features.scene_queries, scene, atol=1e-5)
    assert torch.allclose(features.object_queries, objects, atol=1e-5)
    assert torch.allclose(features.scene, scene.mean(1), atol=1e-5)
    assert torch.allclose(features.object, objects.mean(1), atol=1e-5)


def test_without_queries_it_is_clip(clip_folder, make, images):
    clip = load_clip(clip_folder)
    features = make(queries="none")(images)
    assert torch.allclose(features.cls @ clip.visual.proj, clip.visual(images), atol=1e-5)
    assert features.scene is None
    assert features.object is None


@pytest.mark.parametrize(
    ("choices", "tokens"),
    [
        ({}, [21, 25, 25]),
        ({"queries": "single_step"}, [25, 25, 25]),
        ({"queries": "none"}, [17, 17, 17]),
        ({"scene_queries": False}, [17, 21, 21]),
        ({"object_queries": False}, [21, 21, 21]),
        ({"object_queries": False, "queries": "single_step"}, [21, 21, 21]),
        ({"interactive": "released"}, [21, 25, 25]),
    ],
)
def test_switches_change_the_sequence(make, images, choices, tokens):
    assert tokens_per_layer(make(**choices), images) == tokens


@pytest.mark.parametrize("interactive", ["paper", "released"])
@pytest.mark.parametrize("queries", ["multi_stage", "single_step"])
def test_attention_maps(make, images, interactive, queries):
    encoder = make(interactive=interactive, queries=queries)
    features, plain = encoder(images, attention=True), encoder(images)
    for kind in ("scene", "object"):
        maps = getattr(features, f"{kind}_attention")
        assert maps.shape == (6, 4, encoder.grid[0] * encoder.grid[1])
        assert torch.allclose(maps.sum(-1), torch.ones(6, 4), atol=1e-5)
        assert getattr(plain, f"{kind}_attention") is None
        assert torch.allclose(getattr(features, kind), getattr(plain, kind), atol=1e-5)
    assert torch.allclose(features.cls, plain.cls, atol=1e-5)


def test_one_image_does_not_depend_on_the_others(make, images):
    encoder = make()
    whole, alone = encoder(images), encoder(images[2:3])
    shuffled = encoder(images.flip(0))
    for name in ("cls", "scene", "object", "patches"):
        assert torch.allclose(getattr(whole, name)[2:3], getattr(alone, name), atol=1e-5)
        assert torch.allclose(getattr(whole, name).flip(0), getattr(shuffled, name), atol=1e-5)


def test_checkpointing_changes_memory_only(make, images):
    """Features and gradients are the same; less is kept for the backward pass."""
    kept, found = [], []
    for checkpointing in (False, True):
        encoder = make(checkpointing=checkpointing)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.nbytes) or x, lambda x: x):
            features = encoder(images)
        (features.cls.square().sum() + features.scene.sum() + features.object.sum()).backward()
        kept.append(sum(sizes))
        found.append([features.cls, features.scene, features.object, *(p.grad for p in encoder.parameters())])
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=0, atol=0)
    assert kept[1] < 0.7 * kept[0]  # two of three layers
    with torch.no_grad():
        torch.testing.assert_close(make(checkpointing=True)(images).cls, found[0][0])


def test_parameters_fall_into_two_groups_and_all_learn(make, images):
    encoder = make()
    clip, queries = list(encoder.clip_parameters()), list(encoder.query_parameters())
    assert len(clip) + len(queries) == len(list(encoder.parameters()))
    assert not {id(p) for p in clip} & {id(p) for p in queries}
    features = encoder(images)
    (features.cls.square().sum() + features.scene.sum() + features.object.sum() + features.patches.sum()).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_stages_and_query_length(make, images):
    encoder = make(stages=(1, 2))
    assert encoder.stages == (1, 2)
    assert encoder(images).scene_queries.shape == (6, 4, 32)
    for stages in ((0, 1), (2, 2), (1, 3), (2, 1)):
        with pytest.raises(UniEmoError, match=r"encoder\.stages"):
            make(stages=stages)


def test_default_stages_are_the_rounded_thirds():
    assert [_stages(None, layers) for layers in (3, 6, 12, 24)] == [(1, 2), (2, 4), (4, 8), (8, 16)]


def test_bad_sizes_are_named(clip_folder, make):
    with pytest.raises(UniEmoError, match=r"query_length must be at least 1; got 0"):
        ExpertQueryEncoder(EncoderConfig(clip=clip_folder, query_length=0))
    with pytest.raises(UniEmoError, match=r"set data\.image_size to 32"):
        make()(torch.zeros(1, 3, 64, 64))


def test_the_class_token_can_stand_for_scene_and_object(make, images):
    """A control: L_S and L_O without queries."""
    plain, control = make(queries="none"), make(queries="class_token")
    features = control(images)
    assert features.scene is features.object is features.cls
    assert torch.equal(features.cls, plain(images).cls)
    assert features.scene_queries is None
    assert list(control.query_parameters()) == []
    assert (plain.features, control.features) == ((), ("scene", "object"))
