"""A painted dataset and generated images beside it."""

import pytest
from PIL import Image
from trees import painted_emoset

from uniemo.evaluation.folders import read_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path_factory.getbasetemp() / "evaluation-cache"))


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
            picture = Image.open(emoset_root / names[number % len(names)]).convert("RGB")
            box = (number, number, 60, 60)
            picture.resize((32, 32), box=box).save(root / emotion.capitalize() / f"{number}.png")
    return root
