import types

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image

from uniemo.data import decoding
from uniemo.data.decoding import LargeJpeg, UnreadableImageError, stored_box
from uniemo.data.images import ImageCache, read_image
from uniemo.data.transforms import PairedTransform, _anchor, _resize, _resize_quickly, denormalise

METHODS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's numbers of what turns the stored picture upright


@pytest.fixture(scope="module")
def photo():
    image = Image.fromarray(load_sample_image("china.jpg"))
    return image.resize((1125, 750), Image.Resampling.LANCZOS).crop((0, 0, 1000, 750))


@pytest.fixture(scope="module")
def photo_file(photo, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.JPG"
    photo.save(path, quality=90)
    return path


def _rng(seed):
    return np.random.default_rng(seed)


def _levels(view):
    return (denormalise(view[None])[0] * 255).round()


def _whole_view(path, transform, seed, size):
    """The view from every pixel, resized by Pillow."""
    image = read_image(path)
    box, flip = transform.geometry(*image.size, _rng(seed))
    small = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    pixels = np.asarray(small)[:, ::-1] if flip else np.asarray(small)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float()


def test_scaled_view_is_close_to_the_one_of_every_pixel(photo_file):
    transform = PairedTransform(224, train=True)
    for seed in range(6):
        view, _, _ = transform(ImageCache(1).open(photo_file), _rng(seed))
        off = (_levels(view) - _whole_view(photo_file, transform, seed, 224)).abs()
        assert off.mean() < 2
        assert off.max() < 45


def test_both_views_are_close_where_the_larger_one_needs_every_pixel(photo_file):
    transform = PairedTransform(224, 512, train=True)
    for seed in range(3):
        view, target, _ = transform(ImageCache(1).open(photo_file), _rng(seed))
        assert (_levels(view) - _whole_view(photo_file, transform, seed, 224)).abs().mean() < 1
        assert ((target + 1) * 127.5 - _whole_view(photo_file, transform, seed, 512)).abs().mean() < 0.9


@pytest.mark.parametrize(("size", "shape"), [(400, (750, 1000)), (300, (375, 500)), (150, (188, 250)), (70, (94, 125))])
def test_decodes_as_small_as_the_cut_allows(photo_file, size, shape):
    box = (100.0, 50.0, 760.0, 690.0)
    pixels, cut = ImageCache(1).open(photo_file).cut(box, size)
    assert pixels.shape == (*shape, 3)
    scale = round(750 / shape[0])
    assert cut == tuple(side / scale for side in box)
    assert min(cut[2] - cut[0], cut[3] - cut[1]) >= size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [48, 200])  # decoded at 1/4, whole
def test_crop_is_the_same_however_the_camera_was_held(photo, tmp_path, orientation, size):
    upright = photo.resize((301, 223)).filter(ImageFilter.GaussianBlur(2))  # its JPEG turned is its turned JPEG, nearly
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = upright if inverse == 1 else upright.transpose(Image.Transpose(METHODS[inverse]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    upright.save(tmp_path / "upright.jpg", quality=95)
    assert np.abs(np.asarray(read_image(tmp_path / "turned.jpg"), float) - np.asarray(upright, float)).mean() < 2
    transform = PairedTransform(size, train=True)
    for seed in range(3):
        views = []
        for name in ("turned.jpg", "upright.jpg"):
            picture = ImageCache(1).open(tmp_path / name)
            assert isinstance(picture, LargeJpeg)
            assert (picture.width, picture.height) == (301, 223)
            views.append(_levels(transform(picture, _rng(seed))[0]))
        assert (views[0] - views[1]).abs().mean() < 2
        assert (views[0] - views[1].flip(2)).abs().mean() > 10


def test_stored_box_goes_round():
    box = (10.0, 20.0, 50.0, 70.0)
    assert stored_box(box, 1, 100, 80) == box
    assert stored_box(box, 2, 100, 80) == (50, 20, 90, 70)
    assert stored_box(box, 3, 100, 80) == (50, 10, 90, 60)
    assert stored_box(box, 6, 100, 80) == (20, 30, 70, 70)
    assert stored_box(box, 8, 100, 80) == (30, 10, 80, 50)


def test_quick_resizing_meets_the_box(photo):
    """A ramp shows where a view was cut: its values are coordinates."""
    x, y = np.meshgrid(np.linspace(0, 255, 511), np.linspace(0, 255, 511))
    ramp = np.stack([x, y, x], axis=-1).round().astype(np.uint8)
    rng = _rng(0)
    for _ in range(40):
        left, upper = rng.uniform(0, 200, size=2) * rng.integers(0, 2, size=2)
        width, height = rng.uniform(150, 300, size=2)
        out = _resize_quickly(ramp, (left, upper, left + width, upper + height), 100)
        assert out[..., 0].mean() * 2 == pytest.approx(left + width / 2 - 0.5, abs=0.6)
        assert out[..., 1].mean() * 2 == pytest.approx(upper + height / 2 - 0.5, abs=0.6)


@pytest.mark.parametrize("size", [64, 224, 700])  # the last one enlarges
def test_quick_resizing_is_close_to_pillow(photo, size):
    for box in ((0, 0, 1000, 750), (0.4, 0.3, 611.2, 640.7), (333.3, 111.1, 1000, 750)):
        off = _resize_quickly(np.asarray(photo), box, size).astype(float) - _resize(photo, box, size)
        assert np.abs(off).mean() < 1


def test_anchor_leaves_room_for_the_kernel():
    rng = _rng(0)
    found = [(a, b, _anchor(a, b)) for a, b in zip(rng.uniform(0, 300, 500), rng.uniform(0.3, 4, 500), strict=True)]
    errors = [abs(at[0] + at[1] * step - start) for start, step, at in found if at is not None]
    assert all(at is None or at[1] >= 2 for *_, at in found)
    assert len(errors) > 460
    assert max(errors) <= 0.2
    assert np.mean(errors) < 0.06
    assert _anchor(10.5, 1.0) is None


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_scale_too(photo, tmp_path, mode):
    photo.convert(mode).save(tmp_path / "x.jpg", quality=95)
    transform = PairedTransform(100, train=True)
    view, _, _ = transform(ImageCache(1).open(tmp_path / "x.jpg"), _rng(0))
    assert (_levels(view) - _whole_view(tmp_path / "x.jpg", transform, 0, 100)).abs().mean() < 2


def test_small_pictures_and_evaluation_are_exactly_pillows(photo, tmp_path):
    photo.resize((96, 64)).save(tmp_path / "small.jpg")
    photo.resize((400, 300)).save(tmp_path / "large.jpg")
    for name, train in (("small.jpg", True), ("large.jpg", False)):
        cache, transform = ImageCache(1), PairedTransform(64, 32, train=train)
        picture = cache.open(tmp_path / name) if train else cache.read(tmp_path / name)
        assert isinstance(picture, Image.Image)
        view, target, _ = transform(picture, _rng(3))
        assert torch.equal(_levels(view), _whole_view(tmp_path / name, transform, 3, 64))
        box, flip = transform.geometry(*picture.size, _rng(3))
        small = picture.resize((32, 32), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1) / np.float32(127.5) - 1
        torch.testing.assert_close(target.flip(2) if flip else target, pixels)


def test_what_was_kept_changes_nothing(photo_file, photo, tmp_path):
    photo.save(tmp_path / "large.png")
    transform = PairedTransform(64, train=True)
    for path in (photo_file, tmp_path / "large.png"):
        fresh, used = ImageCache(1), ImageCache(1)
        used.read(path)
        assert len(used) == 1
        views = [transform(cache.open(path), _rng(0))[0] for cache in (fresh, used, used)]
        assert torch.equal(views[0], views[1])
        assert torch.equal(views[0], views[2])


def test_read_image_with_fewer_pixels(photo_file):
    assert read_image(photo_file, smallest=200).size == (500, 375)
    assert read_image(photo_file, smallest=180).size == (250, 188)
    assert read_image(photo_file, smallest=376).size == (1000, 750)
    assert read_image(photo_file).size == (1000, 750)


def test_damage_is_met_with_the_path(photo_file, tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(photo_file.read_bytes()[:40_000])
    picture = ImageCache(1).open(path)  # the header is whole
    with pytest.raises(UnreadableImageError, match=r"cut\.jpg"):
        PairedTransform(64, train=True)(picture, _rng(0))


def test_damaged_exif_counts_as_none(photo, tmp_path):
    photo.save(tmp_path / "x.jpg", exif=b"Exif\0\0garbage that is no TIFF header")
    assert read_image(tmp_path / "x.jpg").size == photo.size
    assert ImageCache(1).open(tmp_path / "x.jpg").orientation == 1


def test_error_of_a_loader_worker_is_one_line():
    error = UnreadableImageError("a.jpg", "truncated")
    text = f"Caught UnreadableImageError in DataLoader worker process 0.\nTraceback:\nx.UnreadableImageError: {error}\n"
    assert str(UnreadableImageError(text)) == str(error)


def test_simplejpeg_gives_pillows_pixels(photo_file, monkeypatch):
    pytest.importorskip("simplejpeg")
    for size in (70, 300, 600):
        both = []
        for package in (decoding._simplejpeg(), None):
            monkeypatch.setattr(decoding, "_simplejpeg", lambda package=package: package)
            both.append(ImageCache(1).open(photo_file).cut((0, 0, 750, 750), size)[0])
            monkeypatch.undo()
        np.testing.assert_array_equal(*both)


def test_pillow_takes_over_what_simplejpeg_refuses(photo_file, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("extraneous bytes")

    refusing = types.SimpleNamespace(decode_jpeg=refuse, decode_jpeg_header=refuse)
    monkeypatch.setattr(decoding, "_simplejpeg", lambda: refusing)
    pixels, _ = ImageCache(1).open(photo_file).cut((0, 0, 750, 750), 300)
    np.testing.assert_array_equal(pixels, np.asarray(read_image(photo_file, smallest=300)))


def test_one_picture_can_be_cut_again(photo_file):
    picture = ImageCache(1).open(photo_file)
    for size in (300, 70, 300):
        fresh = ImageCache(1).open(photo_file).cut((0, 0, 750, 750), size)[0]
        np.testing.assert_array_equal(picture.cut((0, 0, 750, 750), size)[0], fresh)
