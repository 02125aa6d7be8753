"""Visual instruction tuning, on tiny models with random weights."""

import json

import pytest
import torch

from tests.baselines.baseline_runs import folder, recipe, trained
from tests.baselines.tiny_vision_language import MODELS, tiny_vision_language
from tests.refusals import refused
from uniemo import UniEmoError
from uniemo.baselines.question_model import to_pictures
from uniemo.baselines.vision_language import QUESTION
from uniemo.baselines.vision_language_lora import Template, TunedModel, VisionLanguageLora
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.data.batch import EmotionBatch
from uniemo.taxonomy import MIKELS_8
from uniemo.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("awe", "fear"), ("park", "dark_forest"), ("balloon", "eagle"))
TEMPLATES = [
    Template("a", "{scene} with {objects} , {emotion}"),
    Template("a photo of {emotion} ?", "the {scene}"),
    Template("a scene {}", "{objects}"),
]


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tuned(name, checkpointing=False, dropout=0.0, dtype="auto"):
    torch.manual_seed(0)
    path = str(tiny_vision_language(folder() / name, name))
    return TunedModel(path, MIKELS_8, QUESTION, "likelihood", dtype, False, 2, 4, dropout, checkpointing)


def alone(model, picture, question, answer):
    """Return the loss of one image: its sentence tokenised as a whole, its tokens taken one at a time."""
    prompt, end = model.prompt(question), model.processor.tokenizer.eos_token
    whole = model.processor(text=f"{prompt} {answer} {end}", images=[picture], return_tensors="pt")
    first = model.processor(text=prompt, images=[picture], return_tensors="pt")["input_ids"].shape[1]
    log, ids = model.language(**whole).logits[0].log_softmax(dim=-1), whole["input_ids"][0]
    return -torch.stack([log[place - 1, ids[place]] for place in range(first, len(ids))]).mean()


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_answers_alone(name, images):
    model = tuned(name).train()
    questions = ["a photo of the dark forest", "a", "the room ?"]
    answers = ["awe", "fear , amusement park and room", "the beach"]
    pictures = to_pictures(images)
    found = model.errors(pictures, questions, answers)
    expected = torch.stack([alone(model, *one) for one in zip(pictures, questions, answers, strict=True)])
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_adapters_of_the_decoder_alone_learn(name, images):
    model = tuned(name).train()
    learning = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert len(learning) == 2 * 4 * 2  # layers, projections, factors
    assert all(".lora_" in key and "language_model" in key for key in learning)
    arguments = (to_pictures(images), ["a photo"] * 3, ["awe", "dark forest", "fear"])
    before = model.errors(*arguments).mean()
    before.backward()
    plain = {key: value.grad.clone() for key, value in learning.items()}
    assert sum(float(grad.abs().sum()) for grad in plain.values()) > 0
    again = tuned(name, checkpointing=True).train()
    again.errors(*arguments).mean().backward()
    for key, value in again.named_parameters():
        if value.requires_grad:
            assert torch.allclose(value.grad, plain[key], atol=1e-5), key
    optimizer = torch.optim.SGD(learning.values(), lr=0.1)
    optimizer.step()
    assert model.errors(*arguments).mean() < before


@pytest.mark.parametrize("name", MODELS)
def test_adapters_learn_in_full_precision_on_half_precision_weights(name, images):
    model, exact = tuned(name, checkpointing=True, dtype="bfloat16").train(), tuned(name).train()
    kinds = {(value.dtype, value.requires_grad) for value in model.parameters()}
    assert kinds == {(torch.bfloat16, False), (torch.float32, True)}
    arguments = (to_pictures(images), ["a photo"] * 3, ["awe", "dark forest", "fear"])
    errors = model.errors(*arguments)
    errors.mean().backward()
    assert errors.dtype == torch.float32
    assert torch.allclose(errors, exact.errors(*arguments), rtol=0.1, atol=0.1)
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.requires_grad)
    assert model.eval()(images).isfinite().all()


def test_dropout_is_of_training_alone(images):
    model = tuned("llava", dropout=0.5)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    arguments = (to_pictures(images), ["a"] * 3, ["awe"] * 3)
    assert torch.equal(model.eval().errors(*arguments), model.errors(*arguments))
    assert not torch.equal(model.train().errors(*arguments), model.errors(*arguments))


def batch(count):
    scene = torch.arange(count) % 3 - 1  # none, park, dark_forest
    objects = torch.stack([torch.arange(count) % 2 == 0, torch.arange(count) % 4 == 0], dim=1)
    return EmotionBatch(
        images=torch.zeros(count, 3, 4, 4),
        targets=None,
        emotion=torch.arange(count) % 2,
        scene=scene,
        objects=objects,
        generated=torch.zeros(count, dtype=torch.bool),
        sample_id=torch.arange(count),
        names=[str(row) for row in range(count)],
    )


def test_an_image_is_asked_what_it_can_answer():
    module = VisionLanguageLora(path="x", templates=TEMPLATES, template_share=0.6, seed=1)
    module._vocabulary = VOCABULARY
    data = batch(1200)
    questions, answers = module.conversations(data, step=3)
    counts = {"name": 0, "a": 0, "of": 0, "scene": 0, "able": 0}
    for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        emotion = VOCABULARY.emotions[row % 2]
        scene = ("", "park", "dark forest")[row % 3]
        objects = "balloon, eagle" if row % 4 == 0 else "balloon" if row % 2 == 0 else ""
        counts["able"] += bool(scene or objects)
        expected = {
            QUESTION: ("name", emotion),
            "a": ("a", f"{scene} with {objects} , {emotion}"),
            f"a photo of {emotion} ?": ("of", f"the {scene}"),
            "a scene {}": ("scene", objects),
        }
        kind, text = expected[question]
        counts[kind] += 1
        assert answer == text
        assert kind == "name" or ((scene or kind == "scene") and (objects or kind == "of"))
    others = counts["a"] + counts["of"] + counts["scene"]
    assert others == pytest.approx(0.6 * counts["able"], rel=0.1)
    assert module.conversations(data, step=3) == (questions, answers)
    assert module.conversations(data, step=4)[0] != questions


def test_fit_test_and_reason(tmp_path):
    run = trained("vision_language_lora")
    content, info = read_checkpoint(run / "best.ckpt")
    assert info.method == "vision_language_lora"
    assert len(content["state_dict"]) == 16
    assert all(".lora_" in name for name in content["state_dict"])
    assert any(value.abs().sum() > 0 for name, value in content["state_dict"].items() if "lora_B" in name)
    torch.load(run / "best.ckpt", weights_only=True)
    own = ["--ckpt", str(run / "best.ckpt"), "--run_dir", "run"]
    assert main(["test", *own]) == 0
    assert 0 <= json.loads((tmp_path / "run/test.json").read_text())["test/accuracy"] <= 1
    reason = ["--model.reason", "a photo of {emotion} ?", "--trainer.limit_predict_batches", "1"]
    assert main(["predict", *own, *reason]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    assert all(isinstance(row["reason"], str) for row in rows)


def test_mistakes_are_named(capsys):
    with pytest.raises(UniEmoError, match=r"model\.templates may hold \{\} and \{emotion\}.*got \{mood\}"):
        Template("a {mood} ?", "{emotion}")
    assert "model.path must name" in refused(capsys, "fit", "--config", "baselines/vision_language_lora.yaml")
    assert "model.rank" in refused(capsys, *recipe("vision_language_lora"), "--model.rank", "0", "--run_dir", "x")
