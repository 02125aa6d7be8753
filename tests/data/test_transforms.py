import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.transforms import v2

from uniemo.data.images import ImageCache, open_image, read_image
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD, PairedTransform, denormalise


def _rng(*seed):
    return np.random.default_rng(seed)


def _photo(width=96, height=64):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8))


def test_evaluation_is_resize_and_centre_crop():
    image = _photo()
    view, target, mask = PairedTransform(32)(image, _rng(0))
    reference = v2.Compose(
        [
            v2.Resize(32, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(32),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )(image)
    assert target is None
    assert mask is None
    assert (view - reference).abs().mean() < 0.01
    assert (view - reference).abs().max() < 0.1


def test_same_size_picture_is_passed_on_exactly():
    image = _photo(32, 32)
    view, target, _ = PairedTransform(32, 32)(image, _rng(0))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    torch.testing.assert_close(denormalise(view[None])[0], pixels)
    torch.testing.assert_close((target + 1) / 2, pixels)


def test_both_views_and_mask_show_the_same_crop():
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[10:40, 20:60] = 255
    image, mask = Image.fromarray(picture), Image.fromarray(picture[..., 0])
    for seed in range(20):
        view, target, hole = PairedTransform(32, 32, train=True, crop_scale=(0.3, 1.0))(image, _rng(seed), mask)
        seen = denormalise(view[None])[0].mean(0)
        torch.testing.assert_close(seen, (target.mean(0) + 1) / 2, atol=0.01, rtol=0)
        torch.testing.assert_close(seen, hole[0], atol=0.01, rtol=0)


def test_mask_of_another_resolution():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32] = 255
    mask = Image.fromarray(picture[::2, ::2, 0])
    _, _, hole = PairedTransform(16)(Image.fromarray(picture), _rng(0), mask)
    assert hole[0, :7].min() > 0.9
    assert hole[0, 9:].max() < 0.1


def test_randomness_comes_from_the_generator_only():
    transform = PairedTransform(32, 16, train=True)
    first, again, other = (transform(_photo(), _rng(*seed))[0] for seed in ((0, 1, 2), (0, 1, 2), (0, 2, 2)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_crop_stays_inside_and_keeps_its_scale():
    transform = PairedTransform(32, train=True, crop_scale=(0.5, 1.0))
    flips = 0
    for seed in range(200):
        (left, upper, right, lower), flip = transform.geometry(96, 64, _rng(seed))
        assert 0 <= left < right <= 96
        assert 0 <= upper < lower <= 64
        assert 0.45 <= (right - left) * (lower - upper) / 64**2 <= 1.001
        assert 0.85 <= (right - left) / (lower - upper) <= 1.15
        flips += flip
    assert 70 < flips < 130


# Photographs in training: JPEGs are decoded at a scale.


@pytest.fixture(scope="module")
def photo_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.JPG"
    image = Image.fromarray(load_sample_image("china.jpg")).resize((1125, 750), Image.Resampling.LANCZOS)
    image.crop((0, 0, 1000, 750)).save(path, quality=90)
    return path


def _levels(view):
    return (denormalise(view[None])[0] * 255).round()


def _whole_view(path, transform, seed, size):
    """The view from every pixel, resized by Pillow."""
    image = read_image(path)
    box, flip = transform.geometry(*image.size, _rng(seed))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))
    return torch.from_numpy((pixels[:, ::-1] if flip else pixels).copy()).permute(2, 0, 1).float()


@pytest.mark.parametrize("diffusion_size", [None, 512])
def test_scaled_view_is_close_to_the_one_of_every_pixel(photo_file, diffusion_size):
    transform = PairedTransform(224, diffusion_size, train=True)
    for seed in range(4):
        view, target, _ = transform(open_image(photo_file), _rng(seed))
        expected = _whole_view(photo_file, transform, seed, 224)
        assert (_levels(view) - expected).abs().mean() < 5  # the box is rounded to whole pixels
        assert (_levels(view) - expected.flip(2)).abs().mean() > 20
        if target is not None:
            assert ((target + 1) * 127.5 - _whole_view(photo_file, transform, seed, 512)).abs().mean() < 5


@pytest.mark.parametrize(("name", "size", "train"), [("small.jpg", (96, 64), True), ("large.jpg", (400, 300), False)])
def test_small_images_and_evaluation_are_exactly_pillows(photo_file, tmp_path, name, size, train):
    Image.open(photo_file).resize(size).save(tmp_path / name)
    transform = PairedTransform(64, 32, train=train)
    image = (open_image if train else read_image)(tmp_path / name)
    view, target, _ = transform(image, _rng(3))
    assert torch.equal(_levels(view), _whole_view(tmp_path / name, transform, 3, 64))
    torch.testing.assert_close((target + 1) * 127.5, _whole_view(tmp_path / name, transform, 3, 32))


def test_what_was_kept_changes_nothing(photo_file, tmp_path):
    Image.open(photo_file).save(tmp_path / "large.png")
    transform = PairedTransform(64, train=True)
    for path in (photo_file, tmp_path / "large.png"):
        fresh, used = ImageCache(1), ImageCache(1)
        used.read(path)
        views = [transform(cache.open(path), _rng(0))[0] for cache in (fresh, used, used)]
        assert torch.equal(views[0], views[1])
        assert torch.equal(views[0], views[2])
