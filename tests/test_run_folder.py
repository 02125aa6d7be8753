"""Which splits a command uses for a checkpoint."""

import pytest
import yaml
from jsonargparse import Namespace

from uniemo.checkpoint import CheckpointInfo
from uniemo.cli.run_folder import use_splits_of
from uniemo.vocabulary import Vocabulary


def settled(folder, stored, given, write=True):
    """Return the split file that a command takes for a checkpoint in ``folder``."""
    if write:
        (folder / "split.json").write_text("{}")
    section = {"data": {"class_path": "uniemo.data.FI", "init_args": stored}}
    names = Vocabulary(("awe", "fear"))
    checkpoint = CheckpointInfo(folder / "best.ckpt", "1", "understanding", names, {}, {}, yaml.safe_dump(section))
    data = Namespace(class_path="uniemo.data.FI", init_args=Namespace(**given))
    use_splits_of(checkpoint, data)
    return data.init_args.get("split_file")


def test_the_splits_of_the_run_are_used_on_the_same_data(tmp_path):
    assert settled(tmp_path, {"root": "a"}, {"root": "a", "split_file": None}) == str(tmp_path / "split.json")


@pytest.mark.parametrize("other", [{"root": "b"}, {"root": "a", "fold": 2}, {"root": "a", "layout": "fi-csv"}])
def test_other_data_gets_its_own_splits(tmp_path, other):
    assert settled(tmp_path, {"root": "a"}, {**other, "split_file": None}) is None


def test_a_given_split_file_wins_and_a_missing_one_changes_nothing(tmp_path):
    assert settled(tmp_path, {"root": "a"}, {"root": "a", "split_file": "mine.json"}) == "mine.json"
    (tmp_path / "split.json").unlink()
    assert settled(tmp_path, {"root": "a"}, {"root": "a", "split_file": None}, write=False) is None
