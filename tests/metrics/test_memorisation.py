import pytest
from PIL import Image
from small_sets import EIGHT

from uniemo.errors import UniEmoError
from uniemo.metrics.image_sets import read_images
from uniemo.metrics.memorisation import check_memorisation, plot_memorisation
from uniemo.metrics.network_sets import load_clip


@pytest.fixture(scope="module")
def clip():
    return load_clip("miniature:clip")


def test_a_copied_image_is_found(emoset_root, clip, tmp_path):
    train, real = read_images(emoset_root, "train"), read_images(emoset_root)
    copied = dict(zip(train.emotions, train.names, strict=True))
    for emotion in EIGHT:
        (tmp_path / emotion).mkdir()
        Image.open(emoset_root / copied[emotion]).convert("RGB").save(tmp_path / emotion / "0.png")
    generated = read_images(tmp_path)
    found = check_memorisation(generated, real, train, clip, sample=6, seed=1, batch_size=5, progress=False)
    assert len(found.generated.names) == len(found.real.names) == 6
    pairs = zip(found.generated.names, found.generated.training, strict=True)
    assert all(copied[name.split("/")[0]] == training for name, training in pairs)
    assert min(found.generated.similarity) > 0.999
    assert max(found.real.similarity) < 0.999
    assert found.beyond == 1
    assert "100% of 6 generated images are nearer" in found.line()
    plain = found.as_result()
    assert plain["train"]["images"] == 32
    assert len(plain["generated_pairs"]) == 6
    again = check_memorisation(generated, real, train, clip, sample=6, seed=1, batch_size=32, progress=False)
    assert again.generated.names == found.generated.names
    assert again.real.similarity == pytest.approx(found.real.similarity, abs=1e-5)
    plot_memorisation(found, generated, tmp_path / "pairs.png")
    assert Image.open(tmp_path / "pairs.png").height > 300


def test_real_images_must_not_be_training_images(emoset_root, generated_root, clip):
    with pytest.raises(UniEmoError, match="--train must hold none"):
        check_memorisation(
            read_images(generated_root), read_images(emoset_root), read_images(emoset_root, "all"), clip, progress=False
        )
