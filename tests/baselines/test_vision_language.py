"""The vision-language baseline, on tiny models with random weights."""

import json
import shutil

import pytest
import torch
from PIL import Image
from transformers.modeling_outputs import CausalLMOutputWithPast

from tests.baselines.baseline_runs import folder, recipe, trained
from tests.baselines.tiny_vision_language import MODELS, tiny_vision_language
from tests.refusals import refused
from uniemo import UniEmoError
from uniemo.baselines.question_model import QuestionModel, named, to_pictures
from uniemo.baselines.vision_language import QUESTION, VisionLanguage
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.taxonomy import MIKELS_8

NAMES = ("awe", "fear", "dark forest", "amusement park , and room")  # one token, and several


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def asked(name="llava", answer="likelihood", emotions=NAMES, calibrate=False):
    path = str(tiny_vision_language(folder() / name, name))
    return QuestionModel(path, emotions, QUESTION, answer, calibrate, "auto")


def alone(model, picture, name):
    """Return the mean log-probability of a name behind the prompt, one image and one sentence at a time."""
    prompt = model.prompt(model.question)
    whole = model.processor(text=f"{prompt} {name}", images=[picture], return_tensors="pt")
    start = model.processor(text=prompt, images=[picture], return_tensors="pt")
    first = start["input_ids"].shape[1]
    assert torch.equal(whole["input_ids"][:, :first], start["input_ids"])
    log = model.language(**whole).logits.log_softmax(dim=-1)[0]
    ids = whole["input_ids"][0]
    return torch.stack([log[place - 1, ids[place]] for place in range(first, len(ids))]).mean()


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_likelihoods_of_the_names(name, images):
    model = asked(name)
    assert model.name_mask.sum(dim=1).tolist() == [1, 1, 2, 5]
    found = model(images)
    expected = torch.tensor([[alone(model, picture, one) for one in NAMES] for picture in to_pictures(images)])
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(model(images[1:2]), found[1:2], atol=1e-4)  # whatever else was asked before
    assert found.std(dim=0).max() > 1e-4  # the image matters
    assert model.prompt("Which ?").rstrip(" :").endswith("ASSISTANT")


@pytest.mark.parametrize("name", MODELS)
def test_calibration_subtracts_what_is_said_without_an_image(name, images):
    plain, model = asked(name), asked(name, calibrate=True)
    empty = [Image.new("RGB", (32, 32), (grey, grey, grey)) for grey in (0, 128, 255)]
    each = torch.tensor([[alone(model, picture, one) for one in NAMES] for picture in empty])
    expected = plain(images) - each.softmax(dim=1).mean(dim=0).log()
    assert torch.allclose(model(images), expected, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_questions_of_a_batch_are_padded_on_the_left(name, images):
    model = asked(name)
    pictures, questions = to_pictures(images[:2]), ["a", "a photo of the dark forest"]
    inputs = model.inputs(pictures, questions)
    lengths = inputs["attention_mask"].sum(dim=1)
    assert lengths[0] < lengths[1] == inputs["input_ids"].shape[1]
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]
    together = model.language(**inputs).logits[:, -1]
    for row, (picture, question) in enumerate(zip(pictures, questions, strict=True)):
        single = model.language(**model.inputs([picture], [question])).logits[0, -1]
        assert torch.allclose(together[row], single, atol=1e-4)


def test_answers_are_parsed(images, monkeypatch):
    model = asked(answer="text", emotions=MIKELS_8)
    said = iter(["It is Amusing.", "I feel sad", "no idea"])
    monkeypatch.setattr(type(model.processor.tokenizer), "batch_decode", lambda *_, **__: list(said))
    scores = model(images)
    assert scores.argmax(dim=1).tolist() == [0, MIKELS_8.index("sadness"), 0]
    assert scores[2].unique().numel() == 1
    assert model.unnamed == 1


@pytest.mark.parametrize(
    ("answer", "emotion"),
    [
        ("Awe", "awe"),
        ("The image evokes contentment.", "contentment"),
        ("angry", "anger"),
        ("fearful, and sad", "fear"),
        ("It is disgusting", "disgust"),
        ("exciting!", "excitement"),
        ("an image", None),
        ("", None),
    ],
)
def test_named(answer, emotion):
    index = named(answer, MIKELS_8)
    assert (None if index is None else MIKELS_8[index]) == emotion


def test_fit_then_test_and_predict(tmp_path, capsys):
    run = trained("vision_language")
    content, info = read_checkpoint(run / "best.ckpt")
    assert (info.method, content["state_dict"]) == ("vision_language", {})
    assert set(info.backbones) == {"vision_language"}
    assert (run / "best.ckpt").stat().st_size < 20_000
    own = ["--ckpt", str(run / "best.ckpt"), "--run_dir", "run"]
    for answer in ("likelihood", "text"):
        assert main(["test", *own, "--model.answer", answer, "--trainer.limit_test_batches", "2"]) == 0
        metrics = json.loads((tmp_path / "run/test.json").read_text())
        assert 0 <= metrics["test/accuracy"] <= 1
        assert ("named no emotion" in capsys.readouterr().out) == (answer == "text")
    assert main(["predict", *own, "--model.reason", "Why {emotion} ?", "--trainer.limit_predict_batches", "1"]) == 0
    row = json.loads((tmp_path / "run/predictions.jsonl").read_text().splitlines()[0])
    assert isinstance(row["reason"], str)


CODE = """
from pathlib import Path
from transformers import LlavaConfig, LlavaForConditionalGeneration

Path("ran").touch()

class OwnConfig(LlavaConfig):
    model_type = "own_llava"

class OwnModel(LlavaForConditionalGeneration):
    config_class = OwnConfig
"""


def test_a_models_own_code_runs_on_trust_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    place = tmp_path / "own"
    shutil.copytree(tiny_vision_language(folder() / "llava", "llava"), place)
    config = json.loads((place / "config.json").read_text())
    config |= {"model_type": "own_llava", "auto_map": {"AutoConfig": "code.OwnConfig", "AutoModel": "code.OwnModel"}}
    (place / "config.json").write_text(json.dumps(config))
    (place / "code.py").write_text(CODE)
    fit = [*recipe("vision_language"), "--model.path", str(place), "--run_dir", "run"]
    assert "needs --trust" in refused(capsys, *fit)
    assert not (tmp_path / "ran").exists()
    assert main([*fit, "--trust"]) == 0
    (tmp_path / "ran").unlink()
    assert "trust" not in read_checkpoint("run/best.ckpt")[1].config
    assert "needs --trust" in refused(capsys, "test", "--ckpt", "run/best.ckpt")


def test_likelihoods_need_cached_keys_and_values(images, monkeypatch):
    model = asked()
    whole = model.language.forward

    def without_cache(*args, **inputs):
        return CausalLMOutputWithPast(logits=whole(*args, **inputs).logits)

    monkeypatch.setattr(model.language, "forward", without_cache)
    with pytest.raises(UniEmoError, match=r"must be a decoder that goes on from cached .*--model\.answer text"):
        model(images)


def test_mistakes_are_named(capsys):
    with pytest.raises(UniEmoError, match=r"model\.question must hold \{\}"):
        VisionLanguage(path="x", question="What?")
    with pytest.raises(UniEmoError, match=r"model\.path must be a vision-language model .*'/nowhere' could not be"):
        QuestionModel("/nowhere", MIKELS_8, QUESTION, "likelihood", False, "auto")
    assert "--weights random is for methods with a CLIP or a diffusion model" in refused(
        capsys, *recipe("vision_language"), "--weights", "random", "--run_dir", "x"
    )
