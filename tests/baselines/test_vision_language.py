"""The vision-language baseline, on a tiny LLaVA with random weights."""

import json

import pytest
import torch
from PIL import Image

from tests.baselines.baseline_runs import folder, recipe, trained
from tests.baselines.tiny_llava import tiny_llava
from tests.refusals import refused
from uniemo import UniEmoError
from uniemo.baselines.vision_language import QUESTION, QuestionModel, VisionLanguage, named
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.data.transforms import denormalise
from uniemo.taxonomy import MIKELS_8


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def asked(answer="likelihood", emotions=MIKELS_8):
    return QuestionModel(str(tiny_llava(folder() / "llava")), emotions, QUESTION, answer, "auto")


def alone(model, image, name):
    """Return the mean log-probability of a name behind the prompt, one image and one sentence at a time."""
    array = (denormalise(image[None]) * 255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
    whole = model.processor(text=f"{model.prompt} {name}", images=Image.fromarray(array), return_tensors="pt")
    start = model.processor(text=model.prompt, images=Image.fromarray(array), return_tensors="pt")
    first = start["input_ids"].shape[1]
    assert torch.equal(whole["input_ids"][:, :first], start["input_ids"])
    log = model.language(**whole).logits.log_softmax(dim=-1)[0]
    ids = whole["input_ids"][0]
    return torch.stack([log[place - 1, ids[place]] for place in range(first, len(ids))]).mean()


def test_scores_are_likelihoods_of_the_names(images):
    names = ("awe", "fear", "dark forest", "amusement park , and room")  # one token, and several
    model = asked(emotions=names)
    assert [len(name) for name in model.names] == [1, 1, 2, 5]
    found = model(images)
    expected = torch.tensor([[alone(model, image, name) for name in names] for image in images])
    assert torch.allclose(found, expected, atol=1e-4)
    assert found.std(dim=0).max() > 1e-4  # the image matters
    assert "USER" in model.prompt
    assert model.prompt.endswith("ASSISTANT :")


def test_answers_are_parsed(images, monkeypatch):
    model = asked("generate")
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


@pytest.mark.parametrize("answer", ["likelihood", "generate"])
def test_fit_then_test(answer, tmp_path, capsys):
    run = trained("vision_language")
    content, info = read_checkpoint(run / "best.ckpt")
    assert (info.method, content["state_dict"]) == ("vision_language", {})
    assert set(info.backbones) == {"vision_language"}
    assert (run / "best.ckpt").stat().st_size < 20_000
    assert main(["test", "--ckpt", str(run / "best.ckpt"), "--run_dir", "run", "--model.answer", answer]) == 0
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    assert 0 <= metrics["test/accuracy"] <= 1
    assert ("named no emotion" in capsys.readouterr().out) == (answer == "generate")


def test_mistakes_are_named(capsys):
    with pytest.raises(UniEmoError, match=r"model\.question must hold \{\}"):
        VisionLanguage(path="x", question="What?")
    with pytest.raises(UniEmoError, match=r"model\.path must be a vision-language model .*'/nowhere' could not be"):
        QuestionModel("/nowhere", MIKELS_8, QUESTION, "likelihood", "auto")
    assert "--weights random is for methods with a CLIP or a diffusion model" in refused(
        capsys, *recipe("vision_language"), "--weights", "random", "--run_dir", "x"
    )
