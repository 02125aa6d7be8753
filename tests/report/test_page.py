import base64

from PIL import Image

from uniemo.report.page import WIDEST, embed
from uniemo.report.run_page import duration, flat
from uniemo.studies.run_files import Notes, numbers


def test_small_pictures_go_in_unchanged_and_large_ones_smaller(tmp_path):
    small, large, notes = tmp_path / "small.png", tmp_path / "large.png", Notes()
    Image.new("RGB", (20, 10), "red").save(small)
    Image.new("RGB", (2 * WIDEST, 100), "blue").save(large)
    embedded = embed(small, "small", notes)
    assert base64.b64decode(embedded.uri.partition(",")[2]) == small.read_bytes()
    embedded = embed(large, "large", notes)
    assert (embedded.width, embedded.height) == (WIDEST, 50)
    assert embedded.uri.startswith("data:image/jpeg;base64,")
    assert f"{2 * WIDEST} × 100" in embedded.note
    assert not notes.lines


def test_plain_values():
    assert numbers({"a": 1, "b": float("nan"), "c": True, "d": "x", "e": None, "f": 0.5}) == {"a": 1.0, "f": 0.5}
    assert dict(flat({"a": {"b": {"c": 1}, "d": {}}, "e": [2]})) == {"a.b.c": 1, "a.d": {}, "e": [2]}
    assert [duration(value) for value in (5, 100, 4000, 6000)] == ["5 s", "2 min", "67 min", "1.7 h"]
