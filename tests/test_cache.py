"""What is made once for all processes, and made again where it is damaged."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from uniemo import cache
from uniemo.errors import UniEmoError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counted():
    """Return a maker of a file and the list of its calls."""
    calls = []

    def make(path):
        calls.append(path)
        path.write_text("content")

    return make, calls


def test_made_once_and_again_when_damaged(folder):
    make, calls = counted()
    path = cache.get("kind", "key.txt", make)
    assert (path, path.read_text()) == (folder / "kind/key.txt", "content")
    assert cache.get("kind", "key.txt", make) == path
    assert len(calls) == 1
    path.write_text("contemt")
    assert cache.get("kind", "key.txt", make).read_text() == "content"
    path.unlink()
    assert cache.get("kind", "key.txt", make).read_text() == "content"
    path.with_name("key.txt.sum").write_text("{")
    cache.get("kind", "key.txt", make)
    assert len(calls) == 4


def test_folders(folder):
    def make(path):
        (path / "a").mkdir(parents=True)
        (path / "a/b").write_text("content")

    path = cache.get("kind", "key", make)
    (path / "more").write_text("what others add does not matter")
    assert (cache.get("kind", "key", make) / "more").exists()
    (path / "a/b").write_text("cut")
    assert (cache.get("kind", "key", make) / "a/b").read_text() == "content"
    assert not (path / "more").exists()


def test_of_several_at_once_one_makes_it():
    make, calls = counted()
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: cache.get("kind", "key", make), range(8)))) == 1
    assert len(calls) == 1


def test_nothing_is_left_of_what_fails(folder):
    def fail(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("kind", "key", fail)
    assert {path.name for path in (folder / "kind").iterdir()} <= {"key.lock"}


def test_atomic_write(tmp_path):
    target = tmp_path / "new/file"
    with cache.atomic_write(target) as temporary:
        temporary.write_text("one")
        assert not target.exists()
    with pytest.raises(FileNotFoundError), cache.atomic_write(target):
        pass  # nothing was written
    with pytest.raises(TypeError), cache.atomic_write(target) as temporary:
        temporary.write_text(2)
    assert target.read_text() == "one"
    assert os.listdir(target.parent) == ["file"]


def test_json_has_no_nan(tmp_path):
    cache.write_json(tmp_path / "x.json", {"é": 1.5, "none": None})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n "é": 1.5,\n "none": null\n}\n'
    assert cache.to_json([1, "é"]) == '[1, "é"]\n'
    for value in (float("nan"), float("-inf")):
        with pytest.raises(UniEmoError, match=r"must be finite; \{'a': \[-?(nan|inf)\]\}"):
            cache.write_json(tmp_path / "x.json", {"a": [value]})
    assert "1.5" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_digests(tmp_path):
    (tmp_path / "file").write_bytes(b"text")
    assert cache.hash_file(tmp_path / "file", 16) == cache.digest("text") == cache.digest(b"text")
    assert len(cache.digest("text", length=64)) == 64
    different = [("ab", "c"), ("a", "bc"), ("abc",), ({"b": 1, "a": 2},), ([1, 2],), (1, 2), ("a\udcff",)]
    assert len({cache.digest(*parts) for parts in different}) == len(different)
    assert cache.digest({"b": 1, "a": 2}) == cache.digest({"a": 2, "b": 1})
