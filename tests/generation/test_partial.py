"""Going on after a stop, and what is left of a run that is stopped."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.generation.generated_folders import arguments, assert_same_images, pixels, rows_of
from uniemo.cli import main
from uniemo.data.generated import read_index
from uniemo.errors import UniEmoError
from uniemo.generation.partial import partial_folder
from uniemo.models.uniemo import UniEmoModel

pytestmark = pytest.mark.usefixtures("empty_folder")


def interrupt_after(monkeypatch, batches, error=KeyboardInterrupt):
    """Stop generating after some batches."""
    whole, calls = UniEmoModel.generate, []

    def generate(self, *args, **kwargs):
        if len(calls) == batches:
            raise error
        calls.append(1)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(UniEmoModel, "generate", generate)


def test_a_stopped_run_goes_on(tmp_path, capsys, monkeypatch):
    assert main(arguments(out="whole")) == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert main(arguments("--resume", "--batch_size", "4")) == 130
    kept = {path: path.stat().st_mtime_ns for path in Path("out.partial").glob("*/*.png")}
    assert 4 <= len(kept) <= 8  # the last batch may still have been on its way
    assert f"{len(kept)} images are kept in {tmp_path / 'out.partial'}" in capsys.readouterr().err
    assert main(arguments()) == 2
    assert "add --resume to go on" in capsys.readouterr().err
    assert main(arguments("--resume", "--seed", "3")) == 2
    error = capsys.readouterr().err
    assert "with seed 0; got 3" in error
    assert error.count("\n") == 1
    assert len(list(Path("out.partial").glob("*/*.png"))) == len(kept)  # mistakes cost nothing
    damaged = next(iter(kept))
    damaged.write_bytes(damaged.read_bytes()[:50])
    assert main(arguments("--resume", "--batch_size", "3")) == 0
    assert_same_images(pixels("whole"), pixels("out"))
    same = [path for path in kept if path != damaged]
    assert all(Path("out", *path.parts[1:]).stat().st_mtime_ns == kept[path] for path in same)  # not generated again
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out"}
    assert {path.name for path in Path("out").iterdir()} == {path.name for path in Path("whole").iterdir()}


@pytest.mark.parametrize("error", [KeyboardInterrupt, UniEmoError("no")])
def test_nothing_is_left_without_resume(tmp_path, monkeypatch, error):
    interrupt_after(monkeypatch, 1, error)
    assert main(arguments("--batch_size", "4", out="new/folder/out")) != 0
    assert not list(tmp_path.iterdir())


def stopped(folder):
    """Be told to stop while generating into a folder."""
    with partial_folder(folder, rows_of(), resume=False) as partial:
        (partial / "awe").mkdir()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


def test_sigterm_cleans_up(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        stopped(tmp_path / "out")
    assert stop.value.code == 143
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def failing(folder):
    """Fail before the first image is generated."""
    with partial_folder(folder, rows_of(), resume=True):
        raise ValueError("no")


def test_an_empty_folder_is_replaced_and_none_is_kept_without_images(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match="no"):
        failing(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with partial_folder(out, rows_of(), resume=True) as folder:
        assert read_index(folder / "plan.jsonl") == rows_of()
        with pytest.raises(UniEmoError, match="with 9 images; got 3"):
            partial_folder(out, rows_of(1), resume=True).__enter__()
        (folder / "index.jsonl").write_text("{}")
    assert [path.name for path in out.iterdir()] == ["index.jsonl"]
