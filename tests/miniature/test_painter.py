"""Paintings are deterministic, legible in size, and their mask is where the object is."""

import numpy as np
import pytest

from uniemo.errors import UniEmoError
from uniemo.miniature.painter import paint
from uniemo.miniature.styles import STYLES
from uniemo.miniature.table import OBJECTS, SCENES


def _pixels(scene: str, obj: str | None, seed: int = 0, **arguments: object) -> np.ndarray:
    return np.asarray(paint(scene, obj, np.random.default_rng(seed), **arguments).image, dtype=int)  # type: ignore[arg-type]


@pytest.mark.parametrize("obj", OBJECTS)
def test_mask_is_where_the_object_is(obj: str) -> None:
    for seed, scene in enumerate(SCENES):
        mask = paint(scene, obj, np.random.default_rng(seed)).object_mask
        changed = (_pixels(scene, obj, seed) != _pixels(scene, None, seed)).any(axis=2)
        padded = np.pad(mask, 1)
        near = np.logical_or.reduce([padded[dy : dy + 64, dx : dx + 64] for dy in range(3) for dx in range(3)])
        assert not (changed & ~near).any()  # nothing changes away from the object
        assert (changed & mask).sum() >= 0.9 * mask.sum()


@pytest.mark.parametrize("obj", OBJECTS)
def test_object_is_about_half_of_the_width_and_inside(obj: str) -> None:
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(12):
        mask = paint("mountain", obj, rng).object_mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        longest = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 0.33 <= longest / 64 <= 0.58  # a tilt may lengthen a diagonal a little
        shares.append(mask.mean())
    assert 0.04 <= np.mean(shares) <= 0.22


@pytest.mark.parametrize("scene", SCENES)
def test_every_object_stands_out_from_every_scene(scene: str) -> None:
    for seed, obj in enumerate(OBJECTS):
        mask = paint(scene, obj, np.random.default_rng(seed)).object_mask
        contrast = np.abs(_pixels(scene, obj, seed) - _pixels(scene, None, seed)).max(axis=2)[mask]
        assert contrast.mean() > 50, obj


def test_brightness_and_colorfulness_change_the_picture_modestly() -> None:
    plain = _pixels("stadium", "eagle")
    dark, bright = (_pixels("stadium", "eagle", brightness=level) for level in (0.0, 1.0))
    grey, vivid = (_pixels("stadium", "eagle", colorfulness=level) for level in (0.0, 1.0))
    assert 0.7 < dark.mean() / plain.mean() < 0.85
    assert 1.05 < bright.mean() / plain.mean() < 1.25
    assert np.ptp(grey, axis=2).mean() < np.ptp(plain, axis=2).mean() < np.ptp(vivid, axis=2).mean()


def test_wrong_arguments_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UniEmoError, match=r"scene must be one of amusement_park, .*got 'office'"):
        paint("office", None, rng)
    with pytest.raises(UniEmoError, match=r"object must be None or one of balloon, .*got 'pen'"):
        paint("beach", "pen", rng)
    with pytest.raises(UniEmoError, match=r"brightness must be at most 1; got 1.5"):
        paint("beach", None, rng, brightness=1.5)
    with pytest.raises(UniEmoError, match="size must be at least 16; got 8"):
        paint("beach", None, rng, size=8)


def test_harder_objects_are_smaller_and_less_visible() -> None:
    def share(difficulty: float) -> float:
        rng = np.random.default_rng(2)
        return float(np.mean([paint("beach", obj, rng, difficulty=difficulty).object_mask.mean() for obj in OBJECTS]))

    assert share(1.0) < 0.6 * share(0.5) < 0.6 * share(0.0)


def test_hard_paintings_are_deterministic_and_differ_around_the_object() -> None:
    first, second = (_pixels("forest", "cake", 4, difficulty=0.8) for _ in range(2))
    assert (first == second).all()
    plain, clutter = _pixels("forest", None, 4), _pixels("forest", None, 4, difficulty=1.0)
    assert (plain != clutter).any()  # distractors or weather


@pytest.mark.parametrize("style", STYLES)
def test_each_style_changes_the_picture_and_not_its_content(style: str) -> None:
    plain, styled = _pixels("mountain", "skull", 3), _pixels("mountain", "skull", 3, style=style)
    assert (style == "flat") == bool((plain == styled).all())
    alike = np.corrcoef(plain.mean(axis=2).ravel(), styled.mean(axis=2).ravel())[0, 1]
    assert alike > 0.6


def test_styles_and_difficulties_that_do_not_exist_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UniEmoError, match=r"style must be one of flat, sketch, .*got 'cubist'"):
        paint("beach", None, rng, style="cubist")
    with pytest.raises(UniEmoError, match=r"difficulty must be at most 1; got 2"):
        paint("beach", None, rng, difficulty=2)
