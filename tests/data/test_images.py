import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from uniemo.data.images import (
    ImageCache,
    UnreadableImageError,
    check_files,
    check_header,
    load_images,
    read_image,
    read_mask,
)
from uniemo.errors import UniEmoError


def _pixel(path, x=0, y=0):
    image = read_image(path)
    assert image.mode == "RGB"
    return image.getpixel((x, y))


def test_modes_become_rgb(tmp_path):
    for mode, colour, expected in (
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("LA", (50, 255), (50, 50, 50)),
    ):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (4, 4), colour).save(path)
        assert _pixel(path) == expected, mode


def test_transparent_parts_are_white(tmp_path):
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "a.png")
    assert _pixel(tmp_path / "a.png") == (255, 255, 255)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    palette.save(tmp_path / "p.png")
    assert _pixel(tmp_path / "p.png") == (10, 200, 30)
    palette.save(tmp_path / "t.png", transparency=1)
    assert _pixel(tmp_path / "t.png") == (255, 255, 255)


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    red, green, blue = _pixel(tmp_path / "c.jpg")
    assert red > 240
    assert green < 15
    assert blue < 15


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    ramp = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    Image.fromarray(ramp).save(tmp_path / "g.png")
    grey = np.asarray(read_image(tmp_path / "g.png"))[..., 0].ravel()
    np.testing.assert_array_equal(grey, np.rint(np.linspace(0, 255, 16)))
    Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)).save(tmp_path / "f.tiff")
    np.testing.assert_allclose(np.asarray(read_image(tmp_path / "f.tiff"))[..., 0].ravel(), grey, atol=1)


def test_exif_rotation(tmp_path):
    image = Image.new("RGB", (8, 4), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 4, 4))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned right by a quarter: left becomes top
    image.save(tmp_path / "r.png", exif=exif)
    turned = read_image(tmp_path / "r.png")
    assert turned.size == (4, 8)
    assert turned.getpixel((0, 0)) == (255, 255, 255)
    assert turned.getpixel((0, 7)) == (0, 0, 0)


def test_animation_gives_first_frame_and_any_name_opens(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    path = tmp_path / "Überraschung 驚き.GIF"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert _pixel(path)[0] > 200


@pytest.mark.parametrize("fault", ["missing", "empty", "text", "truncated"])
def test_unreadable_file_is_named_in_one_line(tmp_path, fault):
    path = tmp_path / "bad.jpg"
    if fault == "empty":
        path.write_bytes(b"")
    elif fault == "text":
        path.write_text("no picture")
    elif fault == "truncated":
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UniEmoError, match=r"bad\.jpg") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_cache_keeps_what_fits_and_nothing_otherwise(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.new("RGB", (10, 10)).save(path)
    cache = ImageCache(expected=3)
    assert cache.read(paths[0]) is cache.read(paths[0])
    assert cache.used == 400
    small = ImageCache(expected=3, budget=1000)  # three would take 1,200 bytes
    for path in paths:
        small.read(path)
    assert len(small) == 0
    bounded = ImageCache(expected=1, budget=1000)  # more come than were announced
    for path in paths:
        bounded.read(path)
    assert len(bounded) == 2


def test_mask_is_grey(tmp_path):
    Image.new("L", (4, 4), 255).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").mode == "L"


def test_load_images(tmp_path):
    for i, size in enumerate((8, 8, 9)):
        Image.new("RGB", (size, size), (255, 0, 51)).save(tmp_path / f"{i}.png")
    files = [tmp_path / f"{i}.png" for i in range(3)]
    images = load_images(files[:2])
    assert images.shape == (2, 3, 8, 8)
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    with pytest.raises(UniEmoError, match=r"2\.png"):
        load_images(files)


def _photo(size=(90, 60)):
    y, x = np.mgrid[: size[1], : size[0]]
    noise = np.random.default_rng(0).integers(0, 40, size=(size[1], size[0]))
    return Image.fromarray(np.stack([x * 2 + noise, y * 3 + noise, 80 + noise], axis=-1).astype(np.uint8))


def _off(path, expected):
    return np.abs(np.asarray(read_image(path), float) - np.asarray(expected, float)).mean()


def test_cmyk_jpeg_with_and_without_adobes_marker(tmp_path):
    """Photoshop stores ink inverted and says so in a marker; files that lost the marker are inverted all the same."""
    photo = _photo()
    photo.convert("CMYK").save(tmp_path / "adobe.jpg", quality=100)
    data = (tmp_path / "adobe.jpg").read_bytes()
    at = data.index(b"\xff\xee")
    assert data[at + 4 : at + 9] == b"Adobe"
    (tmp_path / "bare.jpg").write_bytes(data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :])
    assert _off(tmp_path / "adobe.jpg", photo) < 3
    assert _off(tmp_path / "bare.jpg", photo) < 3
    photo.convert("CMYK").save(tmp_path / "cmyk.tiff")
    assert _off(tmp_path / "cmyk.tiff", photo) == 0


@pytest.mark.parametrize("suffix", ["JPG", "JPEG", "PNG", "BMP", "GIF", "TIF", "WEBP"])
@pytest.mark.parametrize("name", ["日本語", "Фото", "été & 50% #1", "صورة"])
def test_every_format_under_any_name(tmp_path, suffix, name):
    photo = _photo()
    photo.save(tmp_path / f"{name}.{suffix}")
    assert _off(tmp_path / f"{name}.{suffix}", photo) < 12  # palette and chroma cost that much
    assert check_header(tmp_path / f"{name}.{suffix}") is None


def test_grey_palette_and_transparency_against_the_photograph(tmp_path):
    photo, grey = _photo(), _photo().convert("L")
    grey.save(tmp_path / "grey.jpg", quality=100)
    assert _off(tmp_path / "grey.jpg", grey.convert("RGB")) < 1
    photo.quantize(256).save(tmp_path / "palette.png")
    assert _off(tmp_path / "palette.png", photo) < 8
    half = photo.copy()
    half.putalpha(128)
    half.save(tmp_path / "half.png")
    assert _off(tmp_path / "half.png", Image.blend(photo, Image.new("RGB", photo.size, "white"), 127 / 255)) < 1
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    keyed.save(tmp_path / "keyed.png", transparency=(1, 2, 3))
    assert _pixel(tmp_path / "keyed.png") == (255, 255, 255)


def test_sixteen_bit_tiff_of_either_byte_order(tmp_path):
    ramp = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    Image.fromarray(ramp).save(tmp_path / "little.tif")
    Image.frombytes("I;16B", (4, 4), ramp.astype(">u2").tobytes()).save(tmp_path / "big.tif")
    for name in ("little.tif", "big.tif"):
        grey = np.asarray(read_image(tmp_path / name))[..., 0].ravel()
        np.testing.assert_array_equal(grey, np.rint(np.linspace(0, 255, 16)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_all_orientations(tmp_path, orientation, suffix):
    photo, exif = _photo(), Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / f"x.{suffix}", exif=exif, quality=95)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / f"x.{suffix}")).convert("RGB")
    assert expected.size == ((90, 60) if orientation < 5 else (60, 90))
    assert _off(tmp_path / f"x.{suffix}", expected) == 0


def test_first_frame_of_animations(tmp_path):
    frames = [_photo(), _photo().rotate(180)]
    for suffix in ("gif", "webp", "png", "tif"):
        frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
        assert _off(tmp_path / f"x.{suffix}", frames[0]) < 12
        assert _off(tmp_path / f"x.{suffix}", frames[1]) > 30


@pytest.mark.parametrize("suffix", ["jpg", "progressive.jpg", "png", "gif", "webp", "bmp", "tif"])
def test_header_check_finds_cut_files(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x010E] = "x" * 40_000  # a header longer than what is read at once
    options = {"progressive": True, "exif": exif} if suffix.startswith("prog") else {}
    _photo().save(path, **options)
    whole = path.read_bytes()
    assert check_header(path) is None
    for extra in (b"\0" * 50, b"trailing words \xff"):
        path.write_bytes(whole + extra)
        assert check_header(path) is None
        read_image(path)
    for keep in (len(whole) - 30, len(whole) // 2, 300, 20, 4):
        path.write_bytes(whole[:keep])
        assert check_header(path) is not None, keep
        with pytest.raises(UnreadableImageError):
            read_image(path)


def test_header_check_gives_reasons(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>404 not found</html>" * 50)
    (tmp_path / "folder.jpg").mkdir()
    _photo().save(tmp_path / "half.jpg")
    half = (tmp_path / "half.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(half[:-200] + bytes(200))  # a download that reserved its space
    _photo().save(tmp_path / "png inside.jpg", "PNG")
    huge = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9) + b"\xff\xda\x00\x02\x00\xff\xd9"
    (tmp_path / "huge.jpg").write_bytes(huge)
    names = ["empty.jpg", "text.jpg", "folder.jpg", "gone.jpg", "half.jpg", "png inside.jpg", "huge.jpg"]
    reasons = dict(check_files(tmp_path, names, progress=False))
    assert list(reasons) == ["empty.jpg", "text.jpg", "folder.jpg", "gone.jpg", "half.jpg", "huge.jpg"]
    assert reasons["empty.jpg"] == "zero bytes"
    assert reasons["text.jpg"] == "no picture"
    assert reasons["gone.jpg"] == "it does not exist"
    assert reasons["half.jpg"] == "truncated"
    assert "65535 × 65535" in reasons["huge.jpg"]


def test_header_check_decodes_nothing_and_is_quick(tmp_path, monkeypatch):
    for suffix in ("jpg", "png"):
        _photo((900, 600)).save(tmp_path / f"x.{suffix}")
    monkeypatch.setattr(Image, "open", None)  # neither format needs Pillow
    start = time.perf_counter()
    assert check_files(tmp_path, ["x.jpg", "x.png"] * 500, progress=False) == []
    assert time.perf_counter() - start < 2
