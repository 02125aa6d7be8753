import numpy as np
import pytest
import torch
from PIL import Image

from uniemo.data.images import ImageCache, load_images, read_image, read_mask
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
