import pytest
from PIL import Image

from uniemo.errors import UniEmoError
from uniemo.metrics.image_sets import read_images
from uniemo.metrics.memorisation import check_memorisation, memorisation_line, plot_memorisation
from uniemo.metrics.networks import load_clip
from uniemo.taxonomy import MIKELS_8


@pytest.fixture(scope="module")
def clip():
    return load_clip("miniature:clip")


def test_a_copied_image_is_found(emoset_root, clip, tmp_path):
    train, real = read_images(emoset_root, "train"), read_images(emoset_root)
    copied = dict(zip(train.emotions, train.names, strict=True))
    for emotion in MIKELS_8:
        (tmp_path / emotion).mkdir()
        Image.open(emoset_root / copied[emotion]).convert("RGB").save(tmp_path / emotion / "0.png")
    generated = read_images(tmp_path)
    found = check_memorisation(generated, real, train, clip, sample=6, seed=1, batch_size=5)
    pairs, real_pairs = found["generated_pairs"], found["real_pairs"]
    assert len(pairs) == len(real_pairs) == 6
    assert all(copied[pair["image"].split("/")[0]] == pair["training"] for pair in pairs)
    assert pairs[-1]["similarity"] > 0.999
    assert found["real_max"] < 0.999
    assert found["beyond_95_percent_of_real"] == 1
    assert "100% of 6 generated images are nearer" in memorisation_line(found)
    assert found["train"]["images"] == 32
    again = check_memorisation(generated, real, train, clip, sample=6, seed=1, batch_size=32)
    assert {pair["image"] for pair in again["generated_pairs"]} == {pair["image"] for pair in pairs}
    assert again["real_median"] == pytest.approx(found["real_median"], abs=1e-3)
    plot_memorisation(found, generated, train, tmp_path / "pairs.png")
    assert Image.open(tmp_path / "pairs.png").height > 300


def test_real_images_must_not_be_training_images(emoset_root, generated_root, clip):
    with pytest.raises(UniEmoError, match="--train must hold none"):
        check_memorisation(read_images(generated_root), read_images(emoset_root), read_images(emoset_root, "all"), clip)
