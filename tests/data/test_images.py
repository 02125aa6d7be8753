import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_sample_image

from uniemo.data import images as images_module
from uniemo.data.images import (
    ImageCache,
    LargeJpeg,
    UnreadableImageError,
    load_images,
    open_image,
    read_image,
    verify_image,
)
from uniemo.errors import UniEmoError

ORIENTATION = 0x0112


def _painting(size=(90, 60)):
    y, x = np.mgrid[: size[1], : size[0]]
    noise = np.random.default_rng(0).integers(0, 40, size=(size[1], size[0]))
    return Image.fromarray(np.stack([x * 2 + noise, y * 3 + noise, 80 + noise], axis=-1).astype(np.uint8))


@pytest.fixture(scope="module")
def photo():
    image = Image.fromarray(load_sample_image("china.jpg"))
    return image.resize((1125, 750), Image.Resampling.LANCZOS).crop((0, 0, 1000, 750))


@pytest.fixture(scope="module")
def photo_file(photo, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.JPG"
    photo.save(path, quality=90)
    return path


def _exif(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def _off(path, expected):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.abs(np.asarray(image, float) - np.asarray(expected, float)).mean()


# Every kind of file.


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("LA", (50, 255), (50, 50, 50)),
    ],
)
def test_modes_become_rgb(tmp_path, mode, colour, expected):
    Image.new(mode, (4, 4), colour).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").getpixel((0, 0)) == expected


def test_palette_and_transparent_colours(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    palette.save(tmp_path / "opaque.png")
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    palette.putpixel((3, 3), 0)  # something is to be seen, the rest is laid over white
    keyed.putpixel((3, 3), (9, 9, 9))
    palette.save(tmp_path / "clear.png", transparency=1)
    keyed.save(tmp_path / "keyed.png", transparency=(1, 2, 3))
    found = [read_image(tmp_path / f"{name}.png").getpixel((0, 0)) for name in ("opaque", "clear", "keyed")]
    assert found == [(10, 200, 30), (255, 255, 255), (255, 255, 255)]


def test_cmyk_with_and_without_adobes_marker(tmp_path):
    """Photoshop stores ink inverted and says so in a marker; files that lost the marker are inverted all the same."""
    painting = _painting()
    painting.convert("CMYK").save(tmp_path / "adobe.jpg", quality=100)
    data = (tmp_path / "adobe.jpg").read_bytes()
    at = data.index(b"\xff\xee")
    assert data[at + 4 : at + 9] == b"Adobe"
    (tmp_path / "bare.jpg").write_bytes(data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :])
    painting.convert("CMYK").save(tmp_path / "cmyk.tiff")
    assert _off(tmp_path / "adobe.jpg", painting) < 3
    assert _off(tmp_path / "bare.jpg", painting) < 3
    assert _off(tmp_path / "cmyk.tiff", painting) == 0


def test_deep_grey_keeps_its_range(tmp_path):
    ramp = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp).save(tmp_path / "little.tif")
    Image.frombytes("I;16B", (4, 4), ramp.astype(">u2").tobytes()).save(tmp_path / "big.tif")
    Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)).save(tmp_path / "float.tif")
    for name in ("grey.png", "little.tif", "big.tif", "float.tif"):
        grey = np.asarray(read_image(tmp_path / name))[..., 0].ravel()
        np.testing.assert_allclose(grey, np.rint(np.linspace(0, 255, 16)), atol=1 if name == "float.tif" else 0)


@pytest.mark.parametrize("suffix", ["JPG", "JPEG", "PNG", "BMP", "GIF", "TIF", "WEBP"])
def test_every_format_under_any_name(tmp_path, suffix):
    for name in ("日本語", "Фото", "été & 50% #1", "صورة"):
        _painting().save(tmp_path / f"{name}.{suffix}")
        assert _off(tmp_path / f"{name}.{suffix}", _painting()) < 12  # palette and chroma cost that much
        assert verify_image(tmp_path / f"{name}.{suffix}") is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_all_orientations(tmp_path, orientation, suffix):
    path = tmp_path / f"x.{suffix}"
    _painting().save(path, exif=_exif(orientation), quality=95)
    expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    assert expected.size == ((90, 60) if orientation < 5 else (60, 90))
    assert _off(path, expected) == 0


def test_damaged_exif_counts_as_none(photo, tmp_path):
    photo.save(tmp_path / "x.jpg", exif=b"Exif\0\0garbage that is no TIFF header")
    assert read_image(tmp_path / "x.jpg").size == photo.size
    assert open_image(tmp_path / "x.jpg").width == photo.width


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_first_frame_of_animations(tmp_path, suffix):
    frames = [_painting(), _painting().rotate(180)]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    assert _off(tmp_path / f"x.{suffix}", frames[0]) < 12
    assert _off(tmp_path / f"x.{suffix}", frames[1]) > 30


def test_load_images(tmp_path):
    for i, size in enumerate((8, 8, 9)):
        Image.new("RGB", (size, size), (255, 0, 51)).save(tmp_path / f"{i}.png")
    files = [tmp_path / f"{i}.png" for i in range(3)]
    images = load_images(files[:2])
    assert images.shape == (2, 3, 8, 8)
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    with pytest.raises(UniEmoError, match=r"2\.png"):
        load_images(files)


# Files that cannot be read.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it does not exist"),
        (b"", "zero bytes"),
        (b"no picture", "no picture of a known kind"),
        (b"\xff\xd8\xff", "no picture of a known kind"),
        ("truncated", "image file is truncated"),
    ],
)
def test_unreadable_file_is_named_in_one_line(tmp_path, content, reason):
    path = tmp_path / "bad.jpg"
    if content == "truncated":
        _painting().save(path)
        content = path.read_bytes()[:-300]
    if content is not None:
        path.write_bytes(content)
    for read in (read_image, ImageCache(1).open):
        with pytest.raises(UnreadableImageError, match=rf"bad\.jpg is not \({reason}.*\): restore") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tif"])
def test_truncated_files_of_every_format(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    _painting().save(path)
    whole = path.read_bytes()
    assert verify_image(path) is None
    for keep in (len(whole) // 2, 300, 4):
        path.write_bytes(whole[:keep])
        with pytest.raises(UnreadableImageError):
            read_image(path)
        assert verify_image(path) is not None
    path.write_bytes(whole + b"\0" * 5000)  # what some programs append
    read_image(path)
    assert verify_image(path) is None


def test_verify_image(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>404 not found</html>" * 50)
    (tmp_path / "folder.jpg").mkdir()
    _painting().save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:-500])
    _painting().save(tmp_path / "png inside.jpg", "PNG")
    huge = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9) + b"\xff\xda\x00\x02\x00\xff\xd9"
    (tmp_path / "huge.jpg").write_bytes(huge)
    names = ["empty.jpg", "text.jpg", "folder.jpg", "gone.jpg", "half.png", "png inside.jpg", "huge.jpg"]
    reasons = {name: verify_image(tmp_path / name) for name in names}
    assert [name for name in names if reasons[name] is None] == ["png inside.jpg"]
    assert reasons["empty.jpg"] == "zero bytes"
    assert reasons["gone.jpg"] == "it does not exist"
    assert "megapixels" in reasons["huge.jpg"]


# Large JPEGs.


@pytest.mark.parametrize(("size", "scale"), [(400, 1), (300, 2), (150, 4), (70, 8)])
def test_decodes_as_small_as_the_crop_allows(photo_file, photo, size, scale):
    box = (100.0, 50.0, 760.0, 690.0)
    pixels = open_image(photo_file).crop(box, size)
    assert pixels.shape == (3, round(690 / scale) - round(50 / scale), round(760 / scale) - round(100 / scale))
    assert min(pixels.shape[1:]) >= size
    whole = photo.resize(pixels.shape[:0:-1], Image.Resampling.BOX, box=box)
    assert np.abs(pixels.permute(1, 2, 0).numpy().astype(float) - np.asarray(whole)).mean() < 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [48, 200])  # decoded at 1/4, whole
def test_crop_is_the_same_however_the_camera_was_held(photo, tmp_path, orientation, size):
    upright = photo.resize((304, 224)).filter(ImageFilter.GaussianBlur(2))
    stored = ImageOps.exif_transpose(upright)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    if inverse in images_module._UPRIGHT:
        stored = upright.transpose(images_module._UPRIGHT[inverse])
    stored.save(tmp_path / "turned.jpg", quality=95, exif=_exif(orientation))
    upright.save(tmp_path / "upright.jpg", quality=95)
    crops = []
    for name in ("turned.jpg", "upright.jpg"):
        image = open_image(tmp_path / name)
        assert isinstance(image, LargeJpeg)
        assert (image.width, image.height) == (304, 224)
        crops.append(image.crop((8.0, 16.0, 232.0, 216.0), size).float())
    assert (crops[0] - crops[1]).abs().mean() < 2
    assert (crops[0] - crops[1].flip(2)).abs().mean() > 10


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colour_spaces_scale_too(photo, tmp_path, mode):
    photo.convert(mode).save(tmp_path / "x.jpg", quality=95)
    pixels = open_image(tmp_path / "x.jpg").crop((0, 0, 1000, 750), 150).permute(1, 2, 0).numpy()
    assert pixels.shape == (188, 250, 3)
    expected = np.asarray(photo.convert(mode).convert("RGB").resize((250, 188), Image.Resampling.BOX), float)
    assert np.abs(pixels - expected).mean() < 6


def test_pillow_takes_over_what_simplejpeg_refuses(photo_file, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("extraneous bytes")

    for size in (70, 300, 600):
        with monkeypatch.context() as patch:
            fast = open_image(photo_file).crop((0, 0, 750, 750), size)
            patch.setattr(images_module.simplejpeg, "decode_jpeg", refuse)
            assert torch.equal(open_image(photo_file).crop((0, 0, 750, 750), size), fast)


def test_several_images_in_one_file_are_read_whole(photo, tmp_path):
    small, path = photo.resize((300, 200)), tmp_path / "x.jpg"
    small.save(path, format="MPO", save_all=True, append_images=[small])
    assert np.array_equal(open_image(path), read_image(path))


def test_too_large_images_are_refused(photo_file, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300_000)
    with pytest.raises(UnreadableImageError, match=r"more than 0 megapixels, the most that are read; scale it down"):
        open_image(photo_file)


def test_damage_is_met_with_the_path(photo_file, tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(photo_file.read_bytes()[:40_000])
    image = open_image(path)  # the header is whole
    with pytest.raises(UnreadableImageError, match=r"cut\.jpg"):
        image.crop((0, 0, 500, 500), 64)


# The cache.


def test_cache_keeps_what_fits_and_nothing_otherwise(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.new("RGB", (10, 10)).save(path)
    cache = ImageCache(expected=3)
    kept, opened = cache.read(paths[0]), cache.open(paths[0])
    assert cache.used == 800
    small = ImageCache(expected=3, budget=1000)  # three would take 1,200 bytes
    bounded = ImageCache(expected=1, budget=1000)  # more come than were announced
    for path in paths:
        small.read(path)
        bounded.read(path)
    assert (len(small), len(bounded)) == (0, 2)
    monkeypatch.setattr(Image, "open", None)
    assert cache.read(paths[0]) is kept
    assert cache.open(paths[0]) is opened


def test_large_jpegs_are_not_kept(photo_file):
    cache = ImageCache(1)
    assert isinstance(cache.read(photo_file), Image.Image)
    assert isinstance(cache.open(photo_file), LargeJpeg)
    assert len(cache) == 1


def _white_unknown(kind, values):
    return Image.fromarray(np.full((4, 4), values, dtype=kind)), "x.tif", "whose white is unknown"


@pytest.mark.parametrize(
    ("image", "name", "reason"),
    [
        _white_unknown(np.int32, 300),
        _white_unknown(np.int32, -1),
        _white_unknown(np.float32, 255),
        _white_unknown(np.float32, np.nan),
        (Image.new("RGBA", (9, 9), (200, 0, 0, 0)), "x.png", "fully transparent"),
        (Image.new("RGBA", (9, 9), (200, 0, 0, 0)), "x.webp", "fully transparent"),
        (Image.new("RGB", (1, 1)), "x.png", "a single pixel"),
        (Image.new("RGB", (1, 1)), "x.gif", "a single pixel"),
    ],
)
def test_what_cannot_be_judged_is_refused_and_found_beforehand(tmp_path, image, name, reason):
    image.save(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=reason):
        read_image(tmp_path / name)
    assert reason in verify_image(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=reason):
        open_image(tmp_path / name)


def test_200_megapixels_of_a_phone_are_too_many(tmp_path):
    Image.new("1", (14000, 14000)).save(tmp_path / "x.png")
    assert verify_image(tmp_path / "x.png") == "more than 178 megapixels, the most that are read; scale it down"
