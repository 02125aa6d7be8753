import pytest
from PIL import Image
from tiny import tiny_clip
from trees import painted_emoset

from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.image_sets import read_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path_factory.getbasetemp() / "metrics-cache"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="session")
def clip(clip_folder):
    return FrozenClip(str(clip_folder))


@pytest.fixture(scope="session")
def emoset_root(tmp_path_factory):
    return painted_emoset(tmp_path_factory.mktemp("painted") / "emoset")


@pytest.fixture(scope="session")
def generated_root(emoset_root, tmp_path_factory):
    """Four images of each emotion at 32 pixels, from the validation paintings, in folders."""
    root = tmp_path_factory.mktemp("generated")
    paintings = read_images(emoset_root, "val").by_emotion()
    for emotion, names in paintings.items():
        (root / emotion.capitalize()).mkdir()
        for number in range(4):
            painting = Image.open(emoset_root / names[number % len(names)]).convert("RGB")
            painting.resize((32, 32), box=(number, number, 60, 60)).save(root / emotion.capitalize() / f"{number}.png")
    return root
