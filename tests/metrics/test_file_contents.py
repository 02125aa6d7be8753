import os

import pytest
import torch
from PIL import Image
from small import paint

from uniemo.errors import UniEmoError
from uniemo.metrics import file_contents
from uniemo.metrics.fid import FeatureStatistics
from uniemo.metrics.file_contents import inspect_files
from uniemo.metrics.image_sets import read_images
from uniemo.metrics.real_statistics import StatisticsCache


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, and each one that is read is noted."""
    monkeypatch.setattr(file_contents, "_RECENT", 0)
    read = []
    look = file_contents._look
    monkeypatch.setattr(file_contents, "_look", lambda path: read.append(path) or look(path))
    return read


def test_what_files_say(tmp_path):
    paint(tmp_path, ("awe",), count=2)
    Image.new("RGBA", (20, 12), (0, 0, 0, 90)).save(tmp_path / "awe" / "2.png")
    images = read_images(tmp_path)
    found = inspect_files(images)
    assert found.alpha == (False, False, True)
    assert found.sizes == ((16, 16), (16, 16), (20, 12))
    assert found.size_text() == "2 sizes, shorter side 12 to 16, most often 16×16"
    assert len(set(found.hashes)) == 3
    (tmp_path / "awe" / "3.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    with pytest.raises(UniEmoError, match=r"1 of 4 are not, first .*awe/3\.jpg"):
        inspect_files(read_images(tmp_path))


def test_contents_do_not_depend_on_names(tmp_path):
    first, second = read_images(paint(tmp_path / "a")), read_images(paint(tmp_path / "b"))
    os.rename(tmp_path / "b" / "awe" / "0.png", tmp_path / "b" / "awe" / "zero.png")
    second = read_images(tmp_path / "b")
    digests = [inspect_files(images).digest(images.emotions) for images in (first, second)]
    assert digests[0] == digests[1]


def test_only_changed_files_are_read_again(tmp_path, settled):
    images = read_images(paint(tmp_path))
    before = inspect_files(images, remember=True)
    assert len(settled) == 8
    settled.clear()
    assert inspect_files(images, remember=True).hashes == before.hashes
    assert not settled
    path = tmp_path / "awe" / "1.png"
    look = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the checksum of the empty last chunk: same size, same picture
    path.write_bytes(content)
    os.utime(path, ns=(look.st_atime_ns, look.st_mtime_ns))  # and the same time of change
    after = inspect_files(images, remember=True)
    assert settled == [str(path)]
    assert [a == b for a, b in zip(before.hashes, after.hashes, strict=True)] == [
        name != "awe/1.png" for name in images.names
    ]


def test_brand_new_files_are_not_trusted(tmp_path):
    images = read_images(paint(tmp_path))
    before = inspect_files(images, remember=True)
    Image.new("RGB", (16, 16), "red").save(tmp_path / "fear" / "0.png")
    assert inspect_files(images, remember=True).hashes != before.hashes


def test_statistics_meet_neither_another_image_nor_another_network(tmp_path):
    images = read_images(paint(tmp_path))
    found = inspect_files(images)
    statistics = FeatureStatistics.zeros(2, 3, "net 1 strict")
    statistics.rows, statistics.labels = torch.rand(4, 3), torch.tensor([0, 0, 1, 1])
    statistics.update(statistics.rows, statistics.labels)
    cache = StatisticsCache(images, found, ("awe", "fear"))
    cache.save(statistics)
    again = cache.load("net 1 strict")
    assert all(torch.equal(again.state()[name], value) for name, value in statistics.state().items())
    assert cache.load("net 2 strict") is None
    assert StatisticsCache(images, found, ("fear", "awe")).load("net 1 strict") is None
    assert StatisticsCache(images, found, ("awe", "fear"), 32).load("net 1 strict") is None
    Image.new("RGB", (16, 16), "red").save(tmp_path / "fear" / "0.png")
    changed = StatisticsCache(images, inspect_files(images), ("awe", "fear"))
    assert changed.load("net 1 strict") is None
    assert changed.path("net 1 strict") == cache.path("net 1 strict")  # the old file gives way
    path = cache.path("net 1 strict")
    whole = path.read_bytes()
    for place in (9, len(whole) // 2, len(whole) - 1):  # header and sums
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.load("net 1 strict") is None
    cache.path("net 1 strict").write_bytes(b"damaged")
    assert cache.load("net 1 strict") is None
