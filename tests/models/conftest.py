"""Tiny real networks, written once per run and loaded anew by each test that changes them."""

import pytest
import torch
from tiny import VOCABULARY, tiny_clip, tiny_diffusion
from tiny_sdxl import tiny_sdxl
from tiny_transformers import tiny_sana, tiny_sd3

from uniemo.models.diffusion import DiffusionConfig, load_diffusion
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.models.uniemo import GenerationParts, UniEmoModel


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    return str(tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="session")
def diffusion_folder(tmp_path_factory):
    return str(tiny_diffusion(tmp_path_factory.mktemp("diffusion")))


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory):
    return str(tiny_sdxl(tmp_path_factory.mktemp("sdxl")))


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory):
    return str(tiny_sd3(tmp_path_factory.mktemp("sd3")))


@pytest.fixture(scope="session")
def sana_folder(tmp_path_factory):
    return str(tiny_sana(tmp_path_factory.mktemp("sana")))


@pytest.fixture
def backbone(diffusion_folder):
    return load_diffusion(DiffusionConfig(path=diffusion_folder, steps=3))


@pytest.fixture
def build(clip_folder, diffusion_folder):
    """Builds a tiny model in eval mode; keywords are dataclass fields of the parts."""

    def make(generation=True, encoder=None, **parts):
        torch.manual_seed(0)
        diffusion = parts.pop("diffusion", DiffusionConfig(path=diffusion_folder, steps=3))
        attributes = parts.pop("attributes", None)
        return UniEmoModel.build(
            VOCABULARY,
            EncoderConfig(clip=clip_folder, query_length=4, **(encoder or {})),
            HeadConfig(hidden=8),
            attributes,
            GenerationParts(diffusion=diffusion, **parts) if generation else None,
        ).eval()

    return make


@pytest.fixture
def images():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def emotion():
    return torch.tensor([0, 1, 2, 0, 1, 2])
