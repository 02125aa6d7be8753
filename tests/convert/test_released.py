"""Released checkpoints of stage 1: the numbers, the sizes and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from convert.released_files import classifier_state, load_released, reference, released_state, save, whole_file

from uniemo.convert.released import read_released
from uniemo.errors import UniEmoError

SIZES = [  # width, layers, patch, image, queries, embed, hidden, emotions
    (64, 3, 8, 32, 4, 32, 48, 8),
    (128, 4, 16, 48, 1, 64, 16, 2),
    (64, 5, 8, 16, 3, 24, 48, 6),
    (192, 6, 7, 28, 5, 96, 768, 8),
    (64, 12, 32, 224, 32, 512, 768, 8),
]


@pytest.fixture
def file(tmp_path):
    return save(tmp_path / "best.pth", whole_file(released_state(), classifier_state()))


@pytest.mark.parametrize(("width", "layers", "patch", "image", "queries", "embed", "hidden", "emotions"), SIZES)
def test_equals_the_plain_reference(tmp_path, width, layers, patch, image, queries, embed, hidden, emotions):
    state = released_state(width, layers, patch, image, queries, embed, text=128, vocab=61)
    classifier = classifier_state(width, hidden, emotions)
    path = save(tmp_path / "best.pth", whole_file(state, classifier))
    model = load_released(path)
    images = torch.randn(3, 3, image, image, generator=torch.Generator().manual_seed(2))
    wanted = reference(state, images, classifier)
    with torch.no_grad():
        features = model.encoder(images)
        logits = model.head(features.cls)
    assert not model.training
    for name in ("cls", "scene", "object", "patches"):
        assert torch.allclose(getattr(features, name), wanted[name], rtol=0, atol=1e-5), name
    assert torch.allclose(logits, wanted["logits"], rtol=0, atol=1e-5)

    exact = reference({k: v.double() for k, v in state.items()}, images.double())
    with torch.no_grad():
        features = model.double().encoder(images.double())
    for name in ("cls", "scene", "object", "patches"):
        assert torch.allclose(getattr(features, name), exact[name], rtol=0, atol=1e-12), name

    sizes = read_released(path).sizes
    shape = sizes.shape
    assert (shape.width, shape.layers, shape.patch, shape.image_size) == (width, layers, patch, image)
    assert (sizes.heads, sizes.query_length, shape.embed_dim) == (width // 64, queries, embed)
    assert (sizes.hidden, sizes.num_emotions) == (hidden, emotions)
    assert (sizes.text_width, sizes.vocab_size) == (128, 61)


def test_other_depths_are_noted(tmp_path):
    path = save(tmp_path / "x.pth", {"model": released_state(layers=4), "Emo_classifier": classifier_state()})
    (note,) = read_released(path).notes()
    assert "no multiple of 3: the queries interact after layers 1 and 2" in note


@pytest.mark.parametrize("prefix", ["module.", "module.module."])
def test_data_parallel_prefix(tmp_path, file, prefix):
    content = whole_file(*({prefix + k: v for k, v in s.items()} for s in (released_state(), classifier_state())))
    wrapped = load_released(save(tmp_path / "wrapped.pth", content))
    for name, value in load_released(file).state_dict().items():
        assert torch.equal(value, wrapped.state_dict()[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path, dtype):
    states = [{k: v.to(dtype) for k, v in s.items()} for s in (released_state(), classifier_state())]
    model = load_released(save(tmp_path / "half.pth", whole_file(*states)))
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    wanted = reference(*[{k: v.float() for k, v in states[0].items()}, images])
    with torch.no_grad():
        assert torch.allclose(model.encoder(images).cls, wanted["cls"], rtol=0, atol=1e-5)


def test_old_format_of_torch(tmp_path, file):
    content = whole_file(released_state(), classifier_state())
    old = save(tmp_path / "old.pth", content, _use_new_zipfile_serialization=False)
    assert torch.equal(load_released(old).encoder.scene_query, load_released(file).encoder.scene_query)


def test_plain_values_of_other_kinds(tmp_path):
    content = whole_file(released_state(), classifier_state()) | {"max_accuracy": np.float64(71.5)}
    content |= {
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "names": np.array(["awe"]),
        "n": np.uint8(1),
    }
    content["config"].output_dir = Path("runs/vit")
    about = read_released(save(tmp_path / "x.pth", content)).about
    assert (about["epoch"], about["max_accuracy"], about["config"]["query_len"]) == (9, 71.5, 32)
    assert str(about["config"]["output_dir"]) == "runs/vit"


@pytest.mark.parametrize("bare", [False, True])
def test_model_alone(tmp_path, bare):
    state = released_state()
    path = save(tmp_path / "x.pth", state if bare else {"model": state})
    assert "no Emo_classifier: the emotion head is untrained" in read_released(path).notes()[0]
    model = load_released(path)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = model.encoder(images)
        assert torch.allclose(features.object, reference(state, images)["object"], rtol=0, atol=1e-5)
        assert torch.equal(model.head(features.cls), torch.zeros(2, 8))
    assert model.vocabulary.emotions[0] == "amusement"


def test_without_text_tower(tmp_path):
    path = save(tmp_path / "x.pth", whole_file(released_state(text=0), classifier_state()))
    assert read_released(path).sizes.text_width is None
    load_released(path)


def test_extra_tensors_are_reported(tmp_path):
    state = released_state() | {"visual.something.weight": torch.ones(2)}
    path = save(tmp_path / "x.pth", whole_file(state, classifier_state()))
    file = read_released(path)
    assert "1 tensors that are not used, first 'visual.something.weight'" in file.notes()[0]
    assert file.unknown == ("visual.something.weight",)


def test_emotion_names(tmp_path, file):
    assert load_released(file, emotions=list("ABCDEFGH")).vocabulary.emotions == tuple("abcdefgh")
    with pytest.raises(UniEmoError, match="8 different names"):
        load_released(file, emotions=["joy"])
    three = save(tmp_path / "x.pth", whole_file(released_state(), classifier_state(emotions=3)))
    assert load_released(three).vocabulary.emotions == ("emotion 0", "emotion 1", "emotion 2")


def test_attributes_use_the_files_own_text_tower(tmp_path):
    """Names are embedded by the tower in the file, features projected by its projection."""
    import open_clip

    state = released_state(vocab=49408, context=77)
    path = save(tmp_path / "x.pth", whole_file(state, classifier_state()))
    rows = {"dark_forest": [0.1] * 8, "beach": [0.2] * 8}
    model = load_released(path, scenes=rows, objects={"Eagle": [0.3] * 8})
    assert model.vocabulary.scenes == ("dark_forest", "beach")
    ids = open_clip.get_tokenizer("ViT-B-32")(["dark forest", "beach", "eagle"])
    wanted = unit(text_reference(state, ids))
    assert torch.allclose(model.bank.scene_text, wanted[:2], atol=1e-5)
    assert torch.allclose(model.bank.object_text, wanted[2:], atol=1e-5)
    assert torch.allclose(model.bank.scene_table, torch.tensor(list(rows.values())))
    x = torch.randn(5, 64)
    assert torch.allclose(model.project("scene", x), x @ state["visual_query_scene_proj"], atol=1e-5)
    assert torch.allclose(model.project("object", x), x @ state["visual_query_object_proj"], atol=1e-5)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def text_reference(w, ids):
    """OpenAI's text tower in plain functions; (N, E) at the end token."""
    from convert.released_files import _linear, _norm, _quick_gelu

    x = w["token_embedding.weight"][ids] + w["positional_embedding"]
    mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
    for i in range(2):
        name = f"transformer.resblocks.{i}"
        y = _norm(w, f"{name}.ln_1", x)
        y = torch.nn.functional.linear(y, w[f"{name}.attn.in_proj_weight"], w[f"{name}.attn.in_proj_bias"])
        q, k, v = y.chunk(3, dim=-1)
        y = torch.softmax(q @ k.transpose(1, 2) * 64**-0.5 + mask, dim=-1) @ v  # one head
        x = x + _linear(w, f"{name}.attn.out_proj", y)
        x = x + _linear(
            w, f"{name}.mlp.c_proj", _quick_gelu(_linear(w, f"{name}.mlp.c_fc", _norm(w, f"{name}.ln_2", x)))
        )
    x = _norm(w, "ln_final", x)
    return x[torch.arange(len(ids)), ids.argmax(dim=-1)] @ w["text_projection"]


def test_attributes_need_a_text_tower(file):
    with pytest.raises(UniEmoError, match=r"text tower, for OpenAI's tokenizer"):
        load_released(file, scenes={"beach": [0.1] * 8})


def test_paths_with_tilde(file, monkeypatch):
    monkeypatch.setenv("HOME", str(file.parent))
    assert isinstance(read_released("~/best.pth").path, Path)
