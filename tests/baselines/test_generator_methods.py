"""The arithmetic of the baselines that generate images, against independent references."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.baselines.baseline_runs import folder
from tests.tiny import VOCABULARY
from tests.tiny_runs import assets
from uniemo.baselines.dreambooth import DreamBooth
from uniemo.baselines.emogen import EmoGen, EmotionEncoderConfig, attribute_loss
from uniemo.baselines.prompted import PromptedDiffusion
from uniemo.baselines.textual_inversion import TextualInversion
from uniemo.data.batch import EmotionBatch
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD
from uniemo.models.diffusion import DiffusionConfig, load_diffusion, load_pipeline


def diffusion(kind="sd", prompt="a photo of {}"):
    return DiffusionConfig(path=str(folder() / kind), train_prompt=prompt, steps=2, guidance=3.0)


def built(module):
    module.build(VOCABULARY)
    return module


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return EmotionBatch(
        images=torch.randn(6, 3, 32, 32, generator=generator),
        targets=torch.rand(6, 3, 32, 32, generator=generator) * 2 - 1,
        emotion=torch.tensor([0, 1, 0, 1, 0, 1]),  # none of the third
        scene=torch.tensor([0, -1, 1, -1, 0, 1]),
        objects=torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1]]).bool(),
        generated=torch.tensor([0, 0, 0, 0, 1, 0]).bool(),
        sample_id=torch.arange(6),
        names=[""] * 6,
    )


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_prompted_images_are_those_of_diffusers_own_pipeline(kind):
    module = built(PromptedDiffusion(diffusion(kind)))
    ours = module.generate([0, 1], [3, 4])
    pipeline = load_pipeline(str(folder() / kind))
    pipeline.set_progress_bar_config(disable=True)
    from diffusers import UniPCMultistepScheduler

    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    theirs = pipeline(
        prompt=["a photo of awe", "a photo of fear"],
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        num_inference_steps=2,
        guidance_scale=3.0,
        output_type="pt",
    ).images
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_text_features_are_the_encoders_own(kind):
    backbone = load_diffusion(diffusion(kind))
    features = backbone.text_features(["a balloon", "dark forest"])
    pipeline = load_pipeline(str(folder() / kind))
    pairs = [(pipeline.tokenizer, pipeline.text_encoder)]
    if kind == "xl":
        pairs.append((pipeline.tokenizer_2, pipeline.text_encoder_2))
    assert len(features) == len(pairs)
    for ours, (tokenizer, encoder) in zip(features, pairs, strict=True):
        ids = tokenizer(["a balloon", "dark forest"], padding="max_length", return_tensors="pt").input_ids
        output = encoder(ids)
        theirs = output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_tokens_start_as_the_names_and_learn_from_their_images_alone(kind, batch):
    module = built(TextualInversion(diffusion(kind)))
    for tokens, weight in zip(module.model.tokens, embeddings(module), strict=True):
        ids = module.model.diffusion.tokenizers[0]("fear", add_special_tokens=False).input_ids
        assert torch.allclose(tokens[1], weight[ids].mean(dim=0))
    learning = {name for name, value in module.model.named_parameters() if value.requires_grad}
    assert learning == {f"tokens.{index}" for index in range(len(module.model.tokens))}
    named = built(PromptedDiffusion(diffusion(kind)))
    assert torch.allclose(module.errors(batch, 5), named.errors(batch, 5), atol=1e-5)  # names of one token each
    module.errors(batch, 0).sum().backward()
    for tokens in module.model.tokens:
        assert tokens.grad[:2].any(dim=1).all()
        assert not tokens.grad[2].any()


def embeddings(module):
    return [encoder.get_input_embeddings().weight for encoder in module.model.diffusion.text_encoders]


def test_each_image_samples_its_template(batch):
    module = built(TextualInversion(diffusion(), templates=["a {}", "the {}", "{}"]))
    ids = torch.arange(90)
    sampled = module.prompts(ids, 7)
    assert sampled != module.prompts(ids, 8)
    assert [sampled[row] for row in (5, 2)] == module.prompts(ids[[5, 2]], 7)  # by its own id
    assert all(15 < sampled.count(template) < 45 for template in module.templates)
    one = built(TextualInversion(diffusion(), templates=["a {}"]))
    same = built(TextualInversion(diffusion(prompt="a {}")))
    assert torch.equal(one.errors(batch, 0), same.errors(batch, 0))


def test_mixed_token_is_the_weighted_sum():
    module = built(TextualInversion(diffusion()))
    _, (condition,) = module.model.texts([{0: 0.25, 2: 0.75}, {1: 1.0}], [0, 0], ["{}"] * 2)
    tokens = module.model.tokens[0]
    assert torch.allclose(condition, torch.stack([0.25 * tokens[0] + 0.75 * tokens[2], tokens[1]]))


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_adapters_start_as_nothing_and_alone_learn(kind, batch):
    module = built(DreamBooth(diffusion(kind, "a {} photo"), rank=2))
    plain = load_diffusion(diffusion(kind, "a {} photo"))
    prompts = ["a sks photo", "a zwx photo"]
    seeds = [1, 2]
    assert torch.equal(module.generate([0, 1], seeds), plain.generate(None, prompts, seeds))
    names = {name for name, value in module.model.named_parameters() if value.requires_grad}
    assert names == set(module.trained_state())
    assert all(".lora_" in name for name in names)
    assert {min(value.shape) for value in module.trained_state().values()} == {2}
    module.errors(batch, 0).mean().backward()
    moved = {name for name, value in module.model.named_parameters() if value.grad is not None and value.grad.any()}
    assert moved == {name for name in names if ".lora_B." in name}  # A's turn comes when B is no longer zero


def test_prior_images_are_those_of_the_model_without_adapters(batch):
    module = built(DreamBooth(diffusion(prompt="a {} photo"), rank=2, prior_weight=0.5, prior_images=3))
    before = module.model.prior("a photo", 3, seed=0)
    plain = module.errors(batch, 0)
    with torch.no_grad():
        for name, value in module.model.named_parameters():
            if ".lora_B." in name:
                value.normal_()
    assert torch.equal(module.model.prior("a photo", 3, seed=0), before)
    assert not torch.allclose(module.errors(batch, 0), plain)  # and the adapters are back
    assert before.shape == (3, *module.model.diffusion.latent_shape)


def emogen(kind="sd", **choices):
    encoder = EmotionEncoderConfig(str(assets() / "clip"), 8)
    return built(EmoGen(encoder, diffusion(kind, "{}"), **choices))


def test_attribute_loss_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    text, names = torch.randn(3, 5, generator=generator), torch.randn(4, 5, generator=generator)
    found = attribute_loss(text, names, torch.tensor([2, -1, 0]), tau=0.5)
    for row, wanted in ((0, 2), (2, 0)):
        scores = [math.exp(float(F.cosine_similarity(text[row], name, dim=0)) / 0.5) for name in names]
        assert float(found[row]) == pytest.approx(-math.log(scores[wanted] / sum(scores)), rel=1e-4)
    assert found[1] == 0


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_confidence_weighs_the_two_losses(kind, batch, monkeypatch):
    module = emogen(kind)
    monkeypatch.setattr(type(module), "global_step", 4)
    with torch.no_grad():
        module.model.confidence.uniform_(generator=torch.Generator().manual_seed(0))
    assert "attribute" not in module.losses(batch)[1]  # before names are embedded: data without attributes
    module._attributes = module.model.attribute_features()
    assert [len(part) for part in module._attributes] == [5] * (1 + (kind == "xl"))
    total, terms = module.losses(batch)
    sampled = module.sample_attribute(batch, 4)
    assert sampled[[0, 3, 4]].tolist() == [0, -1, -1]  # its only one; none; a generated image
    assert sampled[1] == 3
    assert sampled[2] in (1, 2, 4)
    assert sampled[5] in (1, 2, 3, 4)
    pairs = zip(sampled.tolist(), batch.emotion.tolist(), strict=True)
    alpha = torch.tensor([0.0 if a < 0 else float(module.model.confidence[a, y]) for a, y in pairs])
    errors = module.errors(batch, 4)
    condition = module.model.condition(module.model.encoder(batch.images))
    texts = module.model.diffusion.text_features(["{}"] * 6, condition)
    parts = [attribute_loss(t, n, sampled, module.hparams.tau) for t, n in zip(texts, module._attributes, strict=True)]
    wanted = ((1 - alpha) * errors + alpha * sum(parts) / len(parts)).mean()
    assert float(total) == pytest.approx(float(wanted), rel=1e-4)
    assert float(terms["confidence"]) == pytest.approx(float(alpha.mean()))
    total.backward()
    learned = {name for name, value in module.model.named_parameters() if value.grad is not None}
    assert {name.split(".")[0] for name in learned} == {"mapping"}


def test_emotion_features_are_the_classifiers_hidden_layer(batch):
    encoder = emogen().model.encoder.eval()
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (CLIP_MEAN, CLIP_STD))
    hidden = encoder((batch.images.sigmoid() - mean) / std)
    assert hidden.shape == (6, 8)
    logits = encoder.classifier.layers[3](hidden)
    assert torch.allclose(logits, encoder.classifier(encoder.visual.features(batch.images.sigmoid())), atol=1e-4)


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_emotions_are_sampled_by_seed(kind):
    module = emogen(kind)
    space = module.model.space
    space.fit({"cls": torch.randn(30, 8)}, torch.arange(30) % 3)
    _, (together, *_) = module.model.texts([{0: 1.0}, {1: 1.0}, {0: 0.5, 1: 0.5}], [7, 8, 7], ["{}"] * 3)
    _, (alone, *_) = module.model.texts([{1: 1.0}], [8], ["{}"])
    assert torch.allclose(together[1:2], alone, atol=1e-6)
    _, (parts, *_) = module.model.texts([{0: 1.0}, {1: 1.0}], [7, 7], ["{}"] * 2)
    assert torch.allclose(together[2], parts.mean(dim=0), atol=1e-6)
