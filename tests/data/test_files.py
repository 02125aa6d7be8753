"""One rule of what is a picture, for every command that takes a folder."""

import shutil
from collections import Counter

import pytest
from PIL import Image, features

from uniemo.cli.classify import find_photos
from uniemo.data.check import check_tree
from uniemo.data.files import images_below, is_image, passed_over
from uniemo.data.layout import layouts_of, read_manifest
from uniemo.errors import UniEmoError
from uniemo.metrics.image_sets import read_images

MODERN = [
    f"x{suffix}"
    for suffix, name in ((".avif", "avif"), (".jp2", "jpg_2000"), (".webp", "webp"))
    if features.check(name)
]
PICTURES = ("1.jpg", "2.JFIF", "6.tiff", "deep/er/7.png", *MODERN)
CLASSES = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")


def picture(path, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (hash(path.name) % 256, 9, 9)).save(path, kind)


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for name in PICTURES:
        picture(root / "awe" / name)
    for folder in ("awe/@eaDir", "__MACOSX/awe", "awe/.thumbnails", "lost+found"):
        picture(root / folder / "x.jpg")
    picture(root / "awe" / "._1.jpg")
    for name in CLASSES:
        picture(root / name / f"{name}.png")
    for name in ("Thumbs.db", "notes.txt", "more.zip", "Makefile"):
        (root / "awe" / name).write_text("x")
    return root


def test_which_files_are_pictures():
    assert all(is_image(name.rpartition("/")[2]) for name in PICTURES)
    assert not any(
        map(is_image, ("a.zip", "a.txt", "Thumbs.db", "a.mpg", "a.eps", "a.pdf", ".a.jpg", "._a.jpg", "jpg"))
    )


def test_what_is_passed_over_is_counted(photos):
    passed = Counter()
    assert images_below(photos, "awe", passed=passed) == sorted(f"awe/{name}" for name in (*PICTURES, "awe.png"))
    assert passed == {"hidden": 4, ".txt": 1, ".zip": 1, "without suffix": 1}
    assert passed_over(passed) == [
        "no pictures, passed over: 4 hidden, 1 .txt, 1 .zip, 1 without suffix (archives are not unpacked)"
    ]
    assert passed_over(Counter()) == []


def test_every_command_sees_the_same_pictures(photos, capsys):
    names = {f"awe/{name}" for name in PICTURES} | {f"{name}/{name}.png" for name in CLASSES}
    manifest = read_manifest(photos, layouts_of("FI"))
    assert set(manifest.names()) == names
    assert set(read_images(photos).names) == names
    assert {path.relative_to(photos).as_posix() for path in find_photos([photos])} == names
    report = check_tree(photos, workers=1)
    assert report.images == len(names)
    line = "no pictures, passed over: "
    assert line in manifest.info.notes[-1]
    assert any(line in note for note in read_images(photos).notes)
    assert line in capsys.readouterr().err
    assert line in report.summary()


def test_links_to_folders_are_followed_once(photos, tmp_path):
    (photos / "awe" / "again").symlink_to(photos / "awe")
    (photos / "awe" / "up").symlink_to(photos)
    assert len(images_below(photos, "awe")) == len(PICTURES) + 1
    (photos / "awe" / "up").unlink()
    shutil.move(photos / "fear", tmp_path / "fear")
    (photos / "fear").symlink_to(tmp_path / "fear")
    with pytest.raises(UniEmoError, match=r"photos must lie inside .* --follow_links"):
        find_photos([photos])
    assert photos / "fear" / "fear.png" in find_photos([photos], follow_links=True)


def test_loose_pictures_are_named(photos):
    picture(photos / "loose.jpg")
    assert "1 image is in no class folder, first loose.jpg" in read_manifest(photos, layouts_of("FI")).info.notes
