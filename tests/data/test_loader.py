import json
import os

import pytest
from PIL import Image

from uniemo.data.dataset import EmotionDataset, EpochSampler, SkippedFiles
from uniemo.data.images import ImageCache, UnreadableImageError
from uniemo.data.loader import EmotionLoader, TrainingLoader, collate_readable
from uniemo.data.manifest import Info, make_manifest
from uniemo.data.transforms import PairedTransform
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

BAD = ("2.png", "5.png")


@pytest.fixture
def records(tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    for i in range(8):
        Image.new("RGB", (16, 16), (i * 30, 0, 0)).save(root / f"{i}.png")
        Image.new("L", (16, 16), 255).save(root / f"{i}.mask.png")
    for name in BAD:
        (root / name).write_bytes((root / name).read_bytes()[:40])
    columns = {
        "path": [f"{i}.png" for i in range(8)],
        "emotion": list(range(8)),
        "mask": [f"{i}.mask.png" for i in range(8)],
    }
    return make_manifest(root, Info(vocabulary=Vocabulary(tuple("abcdefgh"))), columns)


def _dataset(records, tmp_path, **options):
    skipped = SkippedFiles(tmp_path / "run" / "skipped.jsonl")
    return EmotionDataset(records, PairedTransform(16), on_error="skip", skipped=skipped, **options)


def _loader(dataset, batch_size, workers=0, kind=EmotionLoader, sampler=None):
    return kind(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate_readable,
        persistent_workers=workers > 0,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_raise_stops_with_the_path_in_one_line(records, workers):
    loader = _loader(EmotionDataset(records, PairedTransform(16)), 4, workers)
    with pytest.raises(UnreadableImageError, match=r"^image must be readable; .*2\.png is not .*$") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("workers", [0, 2])
def test_skip_leaves_out_exactly_the_bad_ones_and_lists_them(records, tmp_path, workers):
    dataset = _dataset(records, tmp_path)
    sampler = EpochSampler(8, seed=1)
    loader = _loader(dataset, 3, workers, sampler=sampler)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(loader)
        seen = [name for batch in batches for name in batch.names]
        assert sorted(seen) == sorted(set(records.names()) - set(BAD))  # none twice, none in a bad one's place
        for batch in batches:
            assert [f"{label}.png" for label in batch.emotion.tolist()] == batch.names
        assert len(dataset.skipped) == 2
        assert {file.rsplit(os.sep, 1)[1] for file, _ in dataset.skipped.files()} == set(BAD)
    rows = [json.loads(line) for line in dataset.skipped.path.read_text().splitlines()]
    assert {row["file"] for row in rows} == {str(records.root / name) for name in BAD}
    assert all(row["reason"] and row["bytes"] == 40 for row in rows)
    assert "2 unreadable images were left out" in dataset.skipped.summary()
    loader._iterator = None  # ends the workers


def test_what_was_skipped_is_not_opened_again(records, tmp_path, monkeypatch):
    dataset = _dataset(records, tmp_path)
    with pytest.warns(UserWarning, match=r"left out .*2\.png"):
        assert dataset[2] is None
    monkeypatch.setattr(ImageCache, "read", lambda self, path, mask=False: pytest.fail(f"read {path}"))
    assert dataset[2] is None
    again = _dataset(records, tmp_path)  # a run that goes on with the same list
    assert again[8 + 2] is None


@pytest.mark.filterwarnings("ignore:left out")
def test_a_mended_file_is_used_again(records, tmp_path):
    dataset = _dataset(records, tmp_path)
    assert dataset[2] is None
    Image.new("RGB", (16, 16)).save(records.root / "2.png")
    assert dataset[2].name == "2.png"


@pytest.mark.filterwarnings("ignore:left out")
def test_unreadable_mask_counts_as_absent(records, tmp_path):
    (records.root / "0.mask.png").write_bytes(b"no picture")
    dataset = _dataset(records, tmp_path, with_masks=True)
    assert dataset[0].mask.sum() == 0
    assert dataset[1].mask.mean() == 1
    strict = EmotionDataset(records, PairedTransform(16), with_masks=True)
    with pytest.raises(UnreadableImageError, match=r"0\.mask\.png"):
        strict[0]


@pytest.mark.filterwarnings("ignore:left out")
def test_empty_batches_are_passed_over(records, tmp_path):
    dataset = _dataset(records, tmp_path)
    assert len(list(_loader(dataset, 1))) == 6
    batches = list(_loader(dataset, 1, kind=TrainingLoader))
    assert [i for i, batch in enumerate(batches) if batch is None] == [2, 5]
    assert collate_readable([None, None]) is None


@pytest.mark.filterwarnings("ignore:left out")
def test_several_ranks_stop_instead_of_waiting(records, tmp_path, monkeypatch):
    monkeypatch.setattr("uniemo.data.loader.get_world_size", lambda: 2)
    with pytest.raises(UniEmoError, match="every rank"):
        list(_loader(_dataset(records, tmp_path), 1))
    assert len(list(_loader(_dataset(records, tmp_path), 4))) == 2


def test_half_written_line_waits(tmp_path):
    skipped = SkippedFiles(tmp_path / "s.jsonl")
    line = json.dumps({"file": "é.jpg", "reason": "truncated", "bytes": 1, "changed": 2}) + "\n"
    (tmp_path / "s.jsonl").write_text(line + line[:10])
    assert len(skipped) == 1
    (tmp_path / "s.jsonl").write_text(line + line.replace("u00e9", "u00e8"))
    assert skipped.files() == [("é.jpg", "truncated"), ("è.jpg", "truncated")]


def test_nothing_is_written_where_nothing_fails(records, tmp_path):
    dataset = _dataset(records, tmp_path)
    assert dataset[0].name == "0.png"
    assert dataset.skipped.summary() == ""
    assert not (tmp_path / "run").exists()


def test_on_error_must_be_known(records):
    with pytest.raises(UniEmoError, match="on_error"):
        EmotionDataset(records, PairedTransform(16), on_error="ignore")
