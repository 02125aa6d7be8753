import shutil

import open_clip
import pytest
import torch

from tests.refusals import one_line_error
from uniemo.errors import UniEmoError
from uniemo.models.clip import _variant, load_clip


def test_loads_a_folder_as_open_clip_does(clip_folder):
    parts = load_clip(clip_folder)
    model = open_clip.create_model(f"local-dir:{clip_folder}", require_pretrained=True).eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(parts.visual(images), model.visual(images))
    texts = ["dark forest", "a balloon"]
    assert torch.allclose(parts.text(texts), model.encode_text(tokenizer(texts)), atol=1e-6)
    assert (parts.width, parts.embed_dim, parts.image_size) == (32, 16, 32)
    assert parts.mean == (0.48, 0.46, 0.41)
    assert parts.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)
    assert not parts.visual.training
    assert not parts.text(texts).requires_grad


def test_many_texts_are_encoded_one_by_one_alike(clip_folder):
    text = load_clip(clip_folder).text
    names = [f"balloon {number}" for number in range(300)]
    assert torch.allclose(text(names)[299:], text(names[299:]), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "tag", "architecture"),
    [
        ("ViT-B-32", "openai", "ViT-B-32-quickgelu"),
        ("ViT-B-16", "openai", "ViT-B-16-quickgelu"),
        ("ViT-L-14", "openai", "ViT-L-14-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "ViT-B-32"),
        ("ViT-B-32", "laion400m_e32", "ViT-B-32-quickgelu"),
        ("ViT-B-32", "metaclip_400m", "ViT-B-32-quickgelu"),
    ],
)
def test_activation_follows_the_weights(name, tag, architecture):
    assert _variant(name, tag) == (architecture, tag)


@pytest.mark.parametrize("file", ["open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(clip_folder, tmp_path, file):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    (folder / file).unlink()
    with pytest.raises(UniEmoError, match=file):
        load_clip(str(folder))


@pytest.mark.parametrize("name", ["no/such/folder", "ViT-B-32/no_such_tag", "miniature:nothing", "RN50"])
def test_unknown_names_are_one_line(name):
    with pytest.raises(UniEmoError) as error:
        load_clip(f"random:{name}")
    assert "\n" not in str(error.value)


def test_broken_weights_are_one_line(clip_folder, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    (folder / "open_clip_model.safetensors").write_bytes(b"broken")
    with one_line_error("could not be loaded"):
        load_clip(str(folder))
