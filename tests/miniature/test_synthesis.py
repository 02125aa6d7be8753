"""The synthetic tree has EmoSet's layout, the table's distribution and the same bytes for the same seed."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uniemo.errors import UniEmoError
from uniemo.miniature import synthesis, table

SIZES = {"train": 160, "val": 16, "test": 40}


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesis.synthesize_emoset(tmp_path_factory.mktemp("data") / "tree", **SIZES, missing=0.3)


def test_labels_follow_the_table() -> None:
    labels = synthesis.sample_labels(4000, np.random.default_rng(0))
    assert set(Counter(label.emotion for label in labels).values()) == {500}
    hits = np.mean([label.emotion == table.dominant_emotion(label.scene, label.object) for label in labels])
    assert hits == pytest.approx(table.best_accuracy(), abs=0.02)
    counts = Counter((label.scene, label.object) for label in labels)
    observed = np.array([[counts[scene, obj] for obj in table.OBJECTS] for scene in table.SCENES]) / len(labels)
    assert np.abs(observed - table.cell_weights()).max() < 0.005
    assert {label.brightness for label in labels} <= {step / 10 for step in range(11)}


def test_tone_tells_of_the_cell_and_no_more_of_the_label() -> None:
    labels = synthesis.sample_labels(8000, np.random.default_rng(1))
    mean = {e: np.mean([label.brightness for label in labels if label.emotion == e]) for e in table.EMOTIONS}
    assert mean["amusement"] > mean["fear"] + 0.1
    typical = [label.emotion == table.dominant_emotion(label.scene, label.object) for label in labels]
    cells: dict[tuple[str, str], list[float]] = {}
    for label in labels:
        cells.setdefault((label.scene, label.object), []).append(label.brightness)
    residual = np.array([label.brightness - np.mean(cells[label.scene, label.object]) for label in labels])
    fearful = np.array([label.emotion == "fear" for label in labels]) & ~np.array(typical)
    assert abs(residual[fearful].mean()) < 4 * residual.std() / np.sqrt(fearful.sum())


def test_layout(tree: Path) -> None:
    info = _load(tree / "info.json")
    assert list(info["emotion"]["label2idx"]) == list(table.EMOTIONS)
    assert info["brightness"]["label2idx"]["0.3"] == 3
    assert len(info["scene"]["label2idx"]) == 8
    assert info["object"]["idx2label"]["0"] == "Balloon"
    faces_and_actions = {"facial_expression", "human_action"}
    assert set(info) == {"emotion", "brightness", "colorfulness", "scene", "object"} | faces_and_actions
    ids = set()
    for split, count in SIZES.items():
        entries = _load(tree / f"{split}.json")
        assert Counter(entry[0] for entry in entries) == dict.fromkeys(table.EMOTIONS, count // 8)
        for emotion, image, annotation in entries:
            assert image.startswith(f"image/{emotion}/{emotion}_")
            values = _load(tree / annotation)
            assert values["emotion"] == emotion
            assert values["image_id"] == Path(image).stem
            assert str(values["brightness"]) in info["brightness"]["label2idx"]
            assert values.get("scene", "beach") in info["scene"]["label2idx"]
            assert all(name in info["object"]["label2idx"] for name in values.get("object", []))
            ids.add(values["image_id"])
            with Image.open(tree / image) as picture:
                assert picture.size == (64, 64)
    assert len(ids) == sum(SIZES.values())


def test_missing_attributes_are_in_the_truth(tree: Path) -> None:
    truth = _load(tree / "truth.json")
    assert truth["seed"] == 0
    assert truth["best_accuracy"] == table.best_accuracy()
    annotations = [_load(path) for path in sorted((tree / "annotation").rglob("*.json"))]
    assert len(annotations) == len(truth["images"])
    for values in annotations:
        known = truth["images"][values["image_id"]]
        assert values.get("scene", known["scene"]) == known["scene"]
        assert values.get("object", [known["object"]]) == [known["object"]]
    for key in ("scene", "object"):
        assert 0.2 < np.mean([key not in values for values in annotations]) < 0.4
    both = np.mean(["scene" not in values and "object" not in values for values in annotations])
    assert 0.03 < both < 0.17  # independent: 0.09


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    arguments = {"train": 16, "val": 8, "test": 8}
    first, again, other = (
        _digest(synthesis.synthesize_emoset(tmp_path / name, seed=seed, **arguments))
        for name, seed in (("first", 5), ("again", 5), ("other", 6))
    )
    assert first == again
    assert first != other


def test_splits_do_not_depend_on_each_other(tmp_path: Path) -> None:
    short, long = (synthesis.synthesize_emoset(tmp_path / str(n), n, val=8, test=0) for n in (8, 16))
    images = [[(root / entry[1]).read_bytes() for entry in _load(root / "val.json")] for root in (short, long)]
    assert images[0] == images[1]


def test_a_folder_with_contents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UniEmoError, match=f"root must be a new or an empty folder; {tmp_path}"):
        synthesis.synthesize_emoset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (synthesis.synthesize_emoset(empty, 8, 0, 0) / "train.json").is_file()


@pytest.mark.parametrize(("name", "value"), [("train", -1), ("seed", -1), ("size", 8), ("missing", 1.5)])
def test_arguments_outside_their_range_are_named(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(UniEmoError, match=f"{name} must .*got {value}"):
        synthesis.synthesize_emoset(tmp_path / "tree", **{name: value})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
