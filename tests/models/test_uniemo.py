import pytest
import torch
from tiny import VOCABULARY

from uniemo.errors import UniEmoError
from uniemo.models.attributes import AttributeConfig
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import SAMPLERS, emotion_weights
from uniemo.models.fusion import FusionConfig
from uniemo.models.losses import ConditionLossConfig


@pytest.fixture
def model(build, images, emotion):
    model = build()
    model.bank.set_tables(torch.rand(2, 3).softmax(-1), torch.rand(3, 3).softmax(-1))
    with torch.no_grad():
        model.space.fit(model.fused_features(model.features(images)), emotion)
    return model


def test_stage_1_has_no_generation(build, images):
    model = build(generation=False)
    assert model.diffusion is None
    probabilities = model.classify(images)
    assert probabilities.shape == (6, 3)
    assert torch.allclose(probabilities.sum(1), torch.ones(6))
    with pytest.raises(UniEmoError, match="understanding stage"):
        model.generate({0: 1.0}, [0])


def test_diffusion_loss_reaches_queries_and_fusion_and_nothing_frozen(model, images, emotion):
    model.train()
    condition = model.condition(model.features(images), emotion)
    latents = model.diffusion.encode(torch.rand(6, 3, 32, 32) * 2 - 1)
    model.diffusion.loss(latents, condition, torch.randn_like(latents), torch.arange(6) * 10).mean().backward()
    assert all(p.grad is None for p in model.diffusion.parameters())
    for part in (model.fusion, model.encoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    # hard retrieval is data: the projections and the head take no part in this loss
    assert all(p.grad is None for p in [*model.scene_projection.parameters(), *model.head.parameters()])


def test_soft_retrieval_reaches_the_projections(build, images, emotion):
    model = build(attributes=AttributeConfig(retrieval="soft"))
    model.bank.set_tables(torch.rand(2, 3), torch.rand(3, 3))
    model.condition(model.features(images), emotion)[0].sum().backward()
    assert model.scene_projection.weight.grad.abs().sum() > 0


def test_frozen_parts_stay_in_eval_mode(model):
    model.train()
    assert model.head.training
    assert model.encoder.visual.training
    assert not any(module.training for module in model.diffusion.modules())
    for parameter in model.encoder.clip_parameters():
        parameter.requires_grad_(False)
    model.train()
    assert not any(module.training for module in model.encoder.visual.modules())
    assert model.encoder.scene_block.training


def test_condition_weighs_by_the_label_and_not_when_switched_off(build, model, images, emotion):
    features = model.features(images)
    alpha_scene, alpha_object = model.correlation(features, emotion)
    projected = model.scene_projection(features.scene)
    nearest = (projected @ model.bank.scene_text.T).argmax(1)
    assert torch.allclose(alpha_scene, model.bank.scene_table[nearest, emotion])
    expected = model.fusion(features.cls, features.scene, features.object, None, alpha_scene, alpha_object)
    assert torch.allclose(model.condition(features, emotion)[0], expected[0])
    plain = build(fusion=FusionConfig(correlation=False))
    features = plain.features(images)
    assert torch.equal(plain.condition(features, emotion)[0], plain.condition(features, (emotion + 1) % 3)[0])


def test_one_image_does_not_depend_on_the_others(model, images, emotion):
    whole, alone = model.features(images), model.features(images[3:4])
    assert torch.allclose(model.classify(images)[3:4], model.classify(images[3:4]), atol=1e-5)
    assert torch.allclose(model.condition(whole, emotion)[0][3:4], model.condition(alone, emotion[3:4])[0], atol=1e-5)


def test_a_mix_is_the_weighted_sum_of_its_emotions(model):
    seeds = [4, 5]
    mixed = model.sample_condition({0: 3.0, 2: 1.0}, seeds)[0]
    awe, anger = model.sample_condition({0: 1.0}, seeds)[0], model.sample_condition({2: 1.0}, seeds)[0]
    assert torch.allclose(mixed, 0.75 * awe + 0.25 * anger, atol=1e-6)
    assert torch.allclose(mixed, model.sample_condition(torch.tensor([0.75, 0, 0.25]), seeds)[0], atol=1e-6)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_conditions_and_images_depend_on_their_own_seed(model, kind):
    whole = model.sample_condition({1: 1.0}, [1, 2, 3], kind)[0]
    assert torch.allclose(whole[1:2], model.sample_condition({1: 1.0}, [2], kind)[0], atol=1e-6)
    torch.manual_seed(9)
    images = model.generate({1: 1.0}, [1, 2, 3], "a {} room", kind=kind)
    again = model.generate({1: 1.0}, [2], ["a {} room"], kind=kind)
    assert torch.allclose(images[1:2], again, atol=1e-4)


def test_patches_take_part_when_asked_for(build, images, emotion):
    model = build(fusion=FusionConfig(tokens=("cls", "patch")))
    features = model.features(images)
    assert model.features(images).patches is not None
    assert set(model.fused_features(features)) == {"cls", "patch"}
    model.space.fit(model.fused_features(features), emotion)
    assert model.generate({0: 1.0}, [0]).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("kind", ["prototype", "triplet", "cross_entropy"])
def test_condition_losses(build, images, emotion, kind):
    model = build(condition_loss=ConditionLossConfig(kind=kind))
    features = model.features(images)
    condition = model.condition(features, emotion)
    loss = model.condition_loss(condition, emotion, model.logits(features))  # (B,)
    loss.mean().backward()
    assert loss.shape == emotion.shape
    assert torch.isfinite(loss).all()
    assert all(p.grad is not None for p in model.condition_loss.parameters())
    if kind == "prototype":
        assert torch.equal(model.condition_loss.prototypes[0][1], model.diffusion.token_embedding("fear")[0])


def test_ablated_queries(build, images, emotion):
    model = build(encoder={"scene_queries": False}, fusion=FusionConfig(tokens=("cls", "object")))
    assert model.scene_projection is None
    assert model.condition(model.features(images), emotion)[0].shape == (6, 32)
    with pytest.raises(UniEmoError, match="no scene queries"):
        build(encoder={"scene_queries": False})
    with pytest.raises(UniEmoError, match="no scene and no object"):
        build(encoder={"queries": "none"})


def test_trained_state_leaves_frozen_backbones_out(model, build, diffusion_folder):
    state = model.trained_state_dict()
    assert not any(name.startswith("diffusion.") for name in state)
    assert any(name.startswith("encoder.visual.") for name in state)
    assert not any(name.startswith("encoder.visual.") for name in model.trained_state_dict(clip_tuned=False))
    adapted = build(diffusion=DiffusionConfig(path=diffusion_folder, lora_rank=1))
    kept = {name for name in adapted.trained_state_dict() if name.startswith("diffusion.")}
    assert kept
    assert all(".lora_" in name for name in kept)


@pytest.mark.parametrize("clip_tuned", [True, False])
def test_trained_state_comes_back(model, build, images, emotion, clip_tuned):
    torch.manual_seed(7)
    other = build()
    for parameter in other.head.parameters():
        parameter.data.zero_()
    other.load_trained_state_dict(model.trained_state_dict(clip_tuned))
    assert torch.equal(other.classify(images), model.classify(images))
    assert torch.equal(other.sample_condition({0: 1.0}, [1])[0], model.sample_condition({0: 1.0}, [1])[0])


def test_a_stage_starts_from_the_one_before(build, model, images):
    first = build(generation=False)
    first.head.fc1.bias.data += 1
    model.load_trained_state_dict(first.trained_state_dict(), shared_only=True)
    assert torch.equal(model.classify(images), first.classify(images))
    assert model.space.fitted  # the other parts are left alone
    first.load_trained_state_dict(model.trained_state_dict(), shared_only=True)
    with pytest.raises(UniEmoError, match="lacks"):
        model.load_trained_state_dict(first.trained_state_dict())
    with pytest.raises(UniEmoError, match="unknown"):
        first.load_trained_state_dict(model.trained_state_dict())
    misfit = {**first.trained_state_dict(), "head.fc1.bias": torch.zeros(9)}
    with pytest.raises(UniEmoError, match="other shapes"):
        first.load_trained_state_dict(misfit)


@pytest.mark.parametrize("weights", [{}, {0: 0.0}, {0: -1.0, 1: 2.0}, {0: float("nan")}, {0: float("inf")}, {7: 1.0}])
def test_bad_weights(weights):
    with pytest.raises(UniEmoError, match="emotion"):
        emotion_weights(weights, VOCABULARY)


def test_weights_are_scaled():
    assert emotion_weights({2: 2.0, 0: 6.0, 1: 0.0}, VOCABULARY) == {0: 0.75, 2: 0.25}


def test_adapters_of_older_checkpoints_load(build, diffusion_folder):
    """Checkpoints written before peft's adapters name them lora_down (rank, in) and lora_up (out, rank)."""
    model = build(diffusion=DiffusionConfig(path=diffusion_folder, lora_rank=2))
    state = {name: torch.randn(value.shape) for name, value in model.trained_state_dict().items() if ".lora_" in name}
    assert state
    older = {
        name.replace("lora_A.default.weight", "lora_down").replace("lora_B.default.weight", "lora_up"): value
        for name, value in state.items()
    }
    assert not older.keys() & state.keys()
    model.load_trained_state_dict(
        older | {name: v for name, v in model.trained_state_dict().items() if name not in state}
    )
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
