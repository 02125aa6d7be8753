import json

import numpy as np
import pytest
import torch
from trees import drawn_index

from uniemo.data import EmoSetDataset, GeneratedImageDataset, MixedDataset, PairedTransform
from uniemo.data.generated import find_index, intended_emotion, read_index, write_index
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

TRANSFORM = PairedTransform(32, 16)


@pytest.fixture
def real(emoset_root):
    return EmoSetDataset(emoset_root, "train", TRANSFORM)


def test_dataset(tmp_path):
    vocabulary = Vocabulary(("awe", "fear"), ("beach",), ("Cake", "Eagle"))
    index = drawn_index(tmp_path / "drawn", ("fear", "awe"), per_emotion=2)
    dataset = GeneratedImageDataset(index.parent, vocabulary, TRANSFORM, first_id=100)
    samples = [dataset[i] for i in range(4)]
    assert [sample.emotion for sample in samples] == [1, 1, 0, 0]
    assert [sample.sample_id for sample in samples] == [100, 101, 102, 103]
    assert all(sample.generated and sample.scene == -1 and not sample.objects.any() for sample in samples)
    assert samples[0].objects.shape == (2,)
    assert samples[0].target.shape == (3, 16, 16)
    assert samples[0].distribution is None
    one_hot = GeneratedImageDataset(index, vocabulary, TRANSFORM, distributions=True)
    assert [one_hot[i].distribution.tolist() for i in (0, 3)] == [[0.0, 1.0], [1.0, 0.0]]


def test_label_of_a_mixture_is_the_largest_weight():
    assert intended_emotion({"file": "x", "emotion": None, "weights": {"awe": 0.3, "fear": 0.7}}) == "fear"
    assert intended_emotion({"file": "x", "emotion": "awe"}) == "awe"
    with pytest.raises(UniEmoError, match="neither"):
        intended_emotion({"file": "x", "emotion": None, "weights": {}})


@pytest.mark.parametrize("proportion", [0.0, 0.2, 0.5])
def test_mix_has_the_proportion(real, tmp_path, proportion):
    emotions = real.vocabulary.emotions
    drawn = GeneratedImageDataset(drawn_index(tmp_path / "d", emotions), real.vocabulary, TRANSFORM, first_id=32)
    mixed = MixedDataset(real, drawn, proportion)
    samples = [mixed[i] for i in range(len(mixed))]
    generated = [sample for sample in samples if sample.generated]
    assert len(generated) == round(proportion / (1 - proportion) * 32)
    assert len(generated) / len(mixed) == pytest.approx(proportion, abs=0.5 / 32)
    counts = np.bincount([sample.emotion for sample in generated], minlength=8)
    assert counts.max() - counts.min() <= 1
    assert len({sample.sample_id for sample in samples}) == len(mixed)


def test_mix_takes_all_where_fewer_exist_and_says_so(real, tmp_path):
    drawn = GeneratedImageDataset(drawn_index(tmp_path / "d", ("awe",), 2), real.vocabulary, TRANSFORM, first_id=32)
    with pytest.warns(UserWarning, match=r"5\.9%.*only 2 of 8"):
        mixed = MixedDataset(real, drawn, 0.2)
    assert len(mixed) == 34


def test_index_round_trip_and_order_of_names(tmp_path):
    rows = [{"file": "ä.png", "emotion": "awe"}]
    write_index(tmp_path / "index.jsonl", rows)
    assert find_index(tmp_path).name == "index.jsonl"
    write_index(tmp_path / "kept.jsonl", rows)
    assert find_index(tmp_path).name == "kept.jsonl"
    assert read_index(tmp_path) == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.jsonl", "kept.jsonl"]


def test_index_errors(tmp_path):
    with pytest.raises(UniEmoError, match="neither"):
        find_index(tmp_path)
    index = tmp_path / "index.jsonl"
    for text, match in (("", "lists none"), ("{oops\n", "line 1"), ('{"file": "a.png"}\n[1]\n', "line 2")):
        index.write_text(text)
        with pytest.raises(UniEmoError, match=match):
            read_index(index)
    index.write_text(json.dumps({"file": "gone.png", "emotion": "awe"}) + "\n")
    with pytest.raises(UniEmoError, match=r"gone\.png"):
        GeneratedImageDataset(index, Vocabulary(("awe",)), TRANSFORM)
    drawn = drawn_index(tmp_path / "drawn", ("boredom",), 1)
    with pytest.raises(UniEmoError, match="boredom"):
        GeneratedImageDataset(drawn, Vocabulary(("awe",)), TRANSFORM)


def test_mixed_keys_know_the_epoch(emoset_root, tmp_path):
    crop = PairedTransform(32, train=True)
    real = EmoSetDataset(emoset_root, "train", crop)
    drawn = GeneratedImageDataset(drawn_index(tmp_path / "d", ("awe",), 8), real.vocabulary, crop, first_id=32)
    mixed = MixedDataset(real, drawn, 0.2)
    assert torch.equal(mixed[5].image, real.sample(5, 0).image)
    assert torch.equal(mixed[5 + 2 * len(mixed)].image, real.sample(5, 2).image)
    assert mixed[len(mixed) - 1].generated
