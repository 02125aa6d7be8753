import base64
import statistics

import numpy as np
import pytest
from PIL import Image

from tests.report.pages import write_events
from uniemo.report.charts import BOTTOM, HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, chart
from uniemo.report.figures import by_emotion, comparison, overall, parse, shown
from uniemo.report.parts import duration
from uniemo.report.pictures import WIDEST, embed
from uniemo.report.reading import Notes, Series, flat, numbers, read_curves


def test_the_chart_fills_its_frame():
    drawn = chart(Series("val/accuracy", ((0, 0.0), (50, 1.0), (100, 0.5))))
    assert drawn.dots[0] == (LEFT, HEIGHT - BOTTOM)  # 0 and 1 are ticks themselves
    assert drawn.dots[1] == ((LEFT + WIDTH - RIGHT) / 2, TOP)
    assert drawn.dots[2] == (WIDTH - RIGHT, (TOP + HEIGHT - BOTTOM) / 2)
    assert drawn.title == "accuracy, validation"


def test_a_flat_curve_has_a_line():
    drawn = chart(Series("x", ((1, 0.25), (2, 0.25))))
    assert TOP < drawn.dots[0][1] == drawn.dots[1][1] < HEIGHT - BOTTOM


def test_long_curves_are_averaged():
    values = np.random.default_rng(0).normal(size=1000)
    drawn = chart(Series("x", tuple(enumerate(values.tolist()))))
    shown = drawn.path.count(" L") + 1
    assert shown <= MOST_POINTS
    assert drawn.averaged == 4
    ticks = {float(tick.label): tick.at for tick in drawn.y_ticks}
    (low, bottom), (high, top) = min(ticks.items()), max(ticks.items())
    first = float(drawn.path.removeprefix("M").split()[1])
    value = low + (bottom - first) / (bottom - top) * (high - low)
    assert value == pytest.approx(statistics.mean(values[:4]), abs=0.01)


def test_a_step_that_was_logged_twice_counts_once(tmp_path):
    write_events(tmp_path, {"loss/total": [(0, 1.0), (10, 5.0)]}, ".a")
    write_events(tmp_path, {"loss/total": [(10, 2.0), (20, 3.0)]}, ".b")
    assert read_curves(tmp_path, Notes())["loss/total"].points == ((0, 1.0), (10, 2.0), (20, 3.0))


def test_names_of_figures():
    assert parse("Emo-A[ViT-L/14]/awe") == parse("Emo-A[ViT-L/14]/awe").__class__("Emo-A", "ViT-L/14", "awe")
    figures = {"accuracy": 0.5, "accuracy/awe": 0.25, "FID[a]": 3.0, "real/FID[a]": 1.0, "coverage/area": 0.1}
    assert overall(figures) == {"accuracy": 0.5, "FID": 3.0}


def test_emotions_stand_in_the_given_order():
    table = by_emotion({"accuracy/a": 0.5, "accuracy/c": 0.25, "FID[n]/b": 2.0}, ["c", "b"])
    assert [row[0] for row in table.rows] == ["c", "b", "a"]
    assert table.rows[1] == ("b", "–", "2.00")


def test_a_comparison_needs_two():
    assert comparison([("a", "test split", {"accuracy": 0.5}), ("b", "", {})]) is None
    table = comparison([("a", "test split", {"accuracy": 0.5}), ("b", "x", {"FID[n]": 1.5})])
    assert table.rows == (("a", "50.00", "–", "test split"), ("b", "–", "1.50", "x"))


def test_plain_values():
    assert numbers({"a": 1, "b": float("nan"), "c": True, "d": "x", "e": None, "f": 0.5}) == {"a": 1.0, "f": 0.5}
    assert dict(flat({"a": {"b": {"c": 1}, "d": {}}, "e": [2]})) == {"a.b.c": 1, "a.d": {}, "e": [2]}
    assert [duration(value) for value in (5, 100, 4000, 6000)] == ["5 s", "2 min", "67 min", "1.7 h"]


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


def test_a_balanced_accuracy_that_is_no_other_is_left_out():
    assert overall({"accuracy": 0.8837500214, "balanced_accuracy": 0.8837499618}) == {"accuracy": 0.8837500214}
    assert set(overall({"accuracy": 0.5, "balanced_accuracy": 0.25})) == {"accuracy", "balanced_accuracy"}
    assert shown("accuracy", 0.8837500214) == shown("accuracy", 0.8837499618) == "88.38"
    assert shown("FID", None) == "–"
