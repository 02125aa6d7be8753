import json

import numpy as np
import pytest
from trees import drawn_index

from uniemo.data.generated import read_index
from uniemo.errors import UniEmoError
from uniemo.generation.filtering import dual_metric_filter, filter_index


def _reference(emo, sem, low, high, groups=None, criteria="both"):
    """Algorithm 1 with Python lists: sort (score, index) pairs by hand, cut, intersect."""
    kept = []
    for group in sorted(set(groups)) if groups is not None else [None]:
        members = [i for i in range(len(emo)) if group is None or groups[i] == group]
        n = len(members)
        bands = []
        for name, score in (("emo_a", emo), ("sem_c", sem)):
            if criteria in ("both", name):
                ranked = sorted((score[i], i) for i in members)
                bands.append({i for rank, (_, i) in enumerate(ranked) if round(low * n) <= rank < round(high * n)})
        kept += set.intersection(*bands)
    return sorted(kept)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_the_reference(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60)) if seed else 1
    emo, sem = rng.random(n), rng.random(n)
    if seed % 2:
        emo, sem = emo.round(1), sem.round(1)  # many ties
    groups = rng.integers(0, 4, n).tolist()
    low, high = sorted(rng.random(2).tolist())
    for criteria in ("both", "emo_a", "sem_c"):
        for labels in (None, groups):
            expected = _reference(emo.tolist(), sem.tolist(), low, high, labels, criteria)
            assert dual_metric_filter(emo, sem, low, high, labels, criteria).tolist() == expected


def test_worked_example():
    emo = [0.9, 0.1, 0.5, 0.3, 0.7]  # ascending: 1 3 2 4 0; the band 20 % to 80 % holds 3 2 4
    sem = [0.1, 0.2, 0.3, 0.4, 0.5]  # the band holds 1 2 3
    assert dual_metric_filter(emo, sem).tolist() == [2, 3]
    assert dual_metric_filter(emo, sem, criteria="emo_a").tolist() == [2, 3, 4]
    assert dual_metric_filter(emo, sem, criteria="sem_c").tolist() == [1, 2, 3]
    assert dual_metric_filter([0.5] * 10, [0.5] * 10).tolist() == [2, 3, 4, 5, 6, 7]  # ties go by index
    assert dual_metric_filter([], []).dtype == np.int64


def test_refusals():
    nan = float("nan")
    for scores, options, match in (
        (([0, nan, 0, nan], [0, 0, 0, 0]), {}, r"emotion_score.*2 of 4 are NaN, first at index 1"),
        (([0.0], [nan]), {}, "clarity_score"),
        (([0.0, 1.0], [0.0]), {}, "one value for each"),
        (([0.0, 1.0], [0.0, 1.0]), {"groups": [1]}, "one value for each"),
        (([[0.0]], [0.0]), {}, "shape"),
        (([0.0], [0.0]), {"criteria": "all"}, "criteria"),
    ):
        with pytest.raises(UniEmoError, match=match):
            dual_metric_filter(*scores, **options)
    for low, high in ((0.8, 0.2), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)):
        with pytest.raises(UniEmoError, match="low < high"):
            dual_metric_filter([0.0], [0.0], low, high)


def _scores(position):
    return (position * 7 % 11 / 11, position * 5 % 13 / 13)


@pytest.fixture
def index(tmp_path):
    return drawn_index(tmp_path / "drawn", ("awe", "fear"), per_emotion=10, scores=_scores)


def test_filter_index(index, tmp_path):
    rows = read_index(index)
    emo, sem, names = ([row[key] for row in rows] for key in ("emo_a", "sem_c", "emotion"))
    expected = [rows[i] for i in _reference(emo, sem, 0.2, 0.8, names)]
    counts = filter_index(index, tmp_path / "kept")
    kept = read_index(tmp_path / "kept")
    assert [row["seed"] for row in kept] == [row["seed"] for row in expected]
    assert counts == {name: sum(row["emotion"] == name for row in expected) for name in ("awe", "fear")}
    assert all((tmp_path / "kept" / row["file"]).is_file() for row in kept)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"images", "kept.jsonl"}
    assert all((tmp_path / "kept" / row["file"]).samefile(index.parent / row["file"]) for row in kept)  # hard links
    filter_index(index, index.parent / "kept.jsonl", ranking="global")  # beside the images
    kept = read_index(index.parent)
    assert [row["seed"] for row in kept] == _reference(emo, sem, 0.2, 0.8)
    assert kept[0]["file"].startswith("images/")


def test_filter_index_num(index, tmp_path):
    assert filter_index(index, tmp_path / "four", num=4) == {"awe": 2, "fear": 2}
    assert len(read_index(tmp_path / "four")) == 4
    with pytest.raises(UniEmoError, match=r"must not exceed the \d+ images"):
        filter_index(index, tmp_path / "many", num=19)
    with pytest.raises(UniEmoError, match="at least 1"):
        filter_index(index, tmp_path / "many", num=0)
    assert not (tmp_path / "many").exists()


def test_filter_index_empty_band_writes_nothing(tmp_path):
    index = drawn_index(tmp_path / "drawn", ("awe",), 10, scores=lambda i: (i, -i))
    assert filter_index(index, tmp_path / "kept", 0.0, 0.4) == {"awe": 0}
    assert not (tmp_path / "kept").exists()


def test_filter_index_refusals(index, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    for output in (full, full / "notes.txt"):
        with pytest.raises(UniEmoError, match="must be new or empty"):
            filter_index(index, output)
    (full / "kept.jsonl").write_text("{}\n")
    with pytest.raises(UniEmoError, match="must be new or empty"):
        filter_index(index, full / "kept.jsonl")
    with pytest.raises(UniEmoError, match="low < high"):
        filter_index(index, tmp_path / "out", 0.8, 0.2)
    bare = drawn_index(tmp_path / "bare", ("awe",), 2)
    with pytest.raises(UniEmoError, match="score the index first"):
        filter_index(bare, tmp_path / "out")
    rows = read_index(index)
    index.write_text("".join(json.dumps({**row, "emo_a": None}) + "\n" for row in rows))
    with pytest.raises(UniEmoError, match="20 of 20 are NaN"):
        filter_index(index, tmp_path / "out")
    assert not (tmp_path / "out").exists()
