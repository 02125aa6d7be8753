"""Names of the miniature in place of paths."""

import json

import pytest

from uniemo.errors import UniEmoError
from uniemo.miniature.paths import resolve


def test_options_of_the_painted_tree(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path))
    tree = resolve("miniature:emoset?train=16&val=8&test=8&seed=3&size=16&difficulty=0.2")
    truth = json.loads((tree / "truth.json").read_text())
    assert (truth["seed"], truth["size"], truth["difficulty"], len(truth["images"])) == (3, 16, 0.2, 32)
    again = resolve("miniature:emoset?seed=3&train=16&val=8&test=8&size=16&difficulty=0.2")
    assert again == tree  # the order does not matter


@pytest.mark.parametrize("options", ["train", "train=many", "images=3", "difficulty=hard"])
def test_wrong_options_are_named(options):
    with pytest.raises(UniEmoError, match="miniature:emoset must be train, val, test, seed, size, difficulty"):
        resolve(f"miniature:emoset?{options}")
