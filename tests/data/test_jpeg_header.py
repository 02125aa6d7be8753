import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from uniemo.data import decoding
from uniemo.data.decoding import UnreadableImageError, jpeg_header
from uniemo.data.images import ImageCache, read_image


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_image("china.jpg")).resize((1000, 750))


def _camera(path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(path, exif=exif, icc_profile=bytes(70_000))  # the profile takes two blocks


def _late_exif(path, photo):
    """EXIF behind other blocks, as some programs write it."""
    _camera(path, photo)
    data = path.read_bytes()
    start = data.index(b"\xff\xe1")
    length = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    rest = data[:start] + data[start + length :]
    frame = rest.index(b"\xff\xc0")
    path.write_bytes(rest[:frame] + data[start : start + length] + rest[frame:])


def _padded(path, photo):
    """Fill bytes between two blocks, which the standard allows."""
    photo.save(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1))


HEADERS = {
    "plain": lambda path, photo: photo.save(path),
    "progressive": lambda path, photo: photo.save(path, progressive=True, subsampling=0),
    "red, green, blue": lambda path, photo: photo.save(path, keep_rgb=True),
    "grey": lambda path, photo: photo.convert("L").save(path),
    "cmyk": lambda path, photo: photo.convert("CMYK").save(path),
    "profile": lambda path, photo: photo.save(path, icc_profile=bytes(500), comment="a \xff comment"),
    "camera": _camera,
    "late exif": _late_exif,
    "padded": _padded,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_header_is_what_pillow_says(photo, tmp_path, kind, monkeypatch):
    path = tmp_path / "x.jpg"
    HEADERS[kind](path, photo.resize((300, 200)))
    with Image.open(path) as image:
        expected = (*image.size, image.mode == "RGB", image.getexif().get(0x0112, 1))
    assert jpeg_header(path.read_bytes()) == expected
    assert (expected[3] == 6) == (kind in ("camera", "late exif"))
    monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    assert jpeg_header(path.read_bytes()) == expected


def test_common_headers_need_no_pillow(photo, tmp_path, monkeypatch):
    pytest.importorskip("simplejpeg")
    for kind in ("plain", "progressive", "profile"):
        HEADERS[kind](tmp_path / f"{kind}.jpg", photo)
    monkeypatch.setattr(Image, "open", None)
    for kind in ("plain", "progressive", "profile"):
        assert jpeg_header((tmp_path / f"{kind}.jpg").read_bytes()) == (1000, 750, True, 1)


def test_several_pictures_in_one_file_are_read_whole(photo, tmp_path):
    small, path = photo.resize((300, 200)), tmp_path / "x.jpg"
    small.save(path, format="MPO", save_all=True, append_images=[small])
    assert jpeg_header(path.read_bytes()) is None
    assert np.array_equal(ImageCache(1).open(path), read_image(path))


def test_large_header_is_left_to_pillow(photo, tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    photo.save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400_000)
    with pytest.warns(Image.DecompressionBombWarning):
        assert jpeg_header(path.read_bytes()) == (1000, 750, True, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300_000)
    with pytest.raises(UnreadableImageError, match="exceeds limit"):
        ImageCache(1).open(path)


def test_other_files_have_no_jpeg_header(photo, tmp_path):
    photo.save(tmp_path / "x.png")
    assert jpeg_header((tmp_path / "x.png").read_bytes()) is None
    assert jpeg_header(b"") is None


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_said_so(tmp_path, data):
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    for read in (read_image, ImageCache(1).open):
        with pytest.raises(UnreadableImageError, match=r"x\.jpg is not \(no picture of a known kind\): restore"):
            read(path)


def test_kept_picture_is_not_read_again(photo, tmp_path, monkeypatch):
    photo.resize((300, 200)).save(tmp_path / "x.png")
    cache = ImageCache(1)
    kept = cache.open(tmp_path / "x.png")
    monkeypatch.setattr(Image, "open", None)
    assert cache.open(tmp_path / "x.png") is kept
