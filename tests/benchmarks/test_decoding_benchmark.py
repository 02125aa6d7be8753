import numpy as np
import pytest
import torch

from benchmarks import decoding
from uniemo.data.transforms import denormalise


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return decoding.write_files(tmp_path_factory.mktemp("photographs") / "usual", decoding.SIZE, {"quality": 90})


def _levels(view):
    return denormalise(view[None])[0] * 255


@pytest.mark.parametrize("pair", [("plain", "uniemo, the same cuts"), ("plain, our cuts", "uniemo")])
def test_both_sides_of_a_ratio_see_the_same_cuts(files, pair):
    for state, path in enumerate(files["own detail"] * 3):
        views = []
        for name in pair:
            torch.manual_seed(state)
            decoding.SAME.foresee()
            torch.manual_seed(state)
            made = decoding.WAYS[name](path, np.random.default_rng(state))
            views.append(_levels(made if isinstance(made, torch.Tensor) else made[0]))
        off = (views[0] - views[1]).abs().mean()
        assert off < 6  # bilinear against bicubic
        assert off < (views[0] - views[1].flip(2)).abs().mean() / 3


def test_speeds_have_every_ratio(files):
    figures = decoding.speeds(files["enlarged"][:1], usual=True, repeats=2, calls=1)
    assert set(figures["images per second"]) == set(decoding.WAYS | decoding.MORE_WAYS)
    for row, value in figures["times as fast"].items():
        assert 0 < value["low"] <= value["median"] <= value["high"]
        assert figures["the photograph that gains least"][row] == pytest.approx(value["median"])


def test_differences_are_small_and_zero_against_itself(files, monkeypatch):
    paths = files["own detail"][:1]
    (figures,) = decoding.differences(paths, decoding.ALONE, boxes=2)
    assert figures["size"] == 224
    assert 0 < figures["mean"] <= figures["mean of the worst image"] < 6
    assert figures["99.9 % below"] <= figures["max"] < 120

    def ours(transform, path, rng):
        view, _, _ = transform(decoding.ImageCache(1, 0).open(path), rng)
        return [denormalise(view[None])[0]]

    monkeypatch.setattr(decoding, "whole_views", ours)
    assert decoding.differences(paths, decoding.ALONE, boxes=1)[0]["max"] == 0
