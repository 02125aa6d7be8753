import statistics

import numpy as np
import pytest

from tests.report.pages import write_events
from uniemo.report.curves import MOST_POINTS, Curve, chart, charts, read_curves, thinned
from uniemo.studies.run_files import Notes


def test_a_chart_says_what_it_shows():
    found = chart(Curve("val/accuracy", ((0, 0.0), (50, 1.0), (100, 0.5))))
    assert (found.title, found.last, found.averaged) == ("accuracy, validation", "0.5", 1)
    assert found.summary == "accuracy, validation: from 0 at step 0 to 0.5 at step 100"
    assert found == chart(Curve("val/accuracy", ((0, 0.0), (50, 1.0), (100, 0.5))))
    assert chart(Curve("x", ((1, 0.25), (2, 0.25)))).last == "0.25"


def test_long_curves_are_averaged():
    values = np.random.default_rng(0).normal(size=1000).tolist()
    points, size = thinned(list(enumerate(values)))
    assert (len(points), size) == (250, 4)
    assert len(points) <= MOST_POINTS
    assert points[0] == (1.5, pytest.approx(statistics.mean(values[:4])))


def test_validation_comes_first_and_single_emotions_are_left_out():
    points = ((0, 1.0), (1, 2.0))
    names = ["epoch", "lr", "loss/a", "loss/total", "val/accuracy/awe", "val/FID", "val/accuracy"]
    titles = [one.title for one in charts({name: Curve(name, points) for name in names})]
    assert titles == ["accuracy, validation", "FID, validation", "loss: total", "loss: a", "lr"]


def test_a_step_that_was_logged_twice_counts_once(tmp_path):
    write_events(tmp_path, {"loss/total": [(0, 1.0), (10, 5.0)]}, ".a")
    write_events(tmp_path, {"loss/total": [(10, 2.0), (20, 3.0)]}, ".b")
    assert read_curves(tmp_path, Notes())["loss/total"].points == ((0, 1.0), (10, 2.0), (20, 3.0))
