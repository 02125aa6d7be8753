"""What the operating system says, whichever library has met it, is one line with the file and a way out."""

import argparse
import errno
import io
import os
import shutil
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from tests.small_disk import files_of_at_most
from uniemo.cache import atomic_write, save_tensors, write_json
from uniemo.cli import main
from uniemo.errors import UniEmoError, one_line

_NUMBERS = torch.arange(100_000)


def _arrow(path):
    table = pa.table({"n": _NUMBERS.numpy()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _image(kind):
    pixels = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    return lambda path: Image.fromarray(pixels).save(path, format=kind)


_WRITERS = {
    "torch": lambda path: torch.save(_NUMBERS, path),
    "safetensors": lambda path: save_file({"n": _NUMBERS}, path),
    "arrow": _arrow,
    "npy": lambda path: np.save(path.open("wb"), _NUMBERS.numpy()),
    "npz": lambda path: np.savez(path.open("wb"), n=_NUMBERS.numpy()),
    "png": _image("PNG"),
    "jpeg": _image("JPEG"),
    "text": lambda path: path.write_text("x" * 100_000),
    "copy": lambda path: shutil.copyfile(argparse.__file__, path),
}


@pytest.mark.parametrize("writer", _WRITERS)
def test_a_disk_that_fills_names_the_file_and_leaves_the_old_one_whole(tmp_path, writer):
    path = tmp_path / "result"
    path.write_text("as it was")
    with files_of_at_most(20_000), pytest.raises(OSError) as caught, atomic_write(path) as temporary:  # noqa: PT011
        _WRITERS[writer](temporary)
    line = one_line(caught.value)
    assert f": {path}: " in line
    assert "disk" in line
    assert path.read_text() == "as it was"
    assert os.listdir(tmp_path) == ["result"]


def test_tensors_that_do_not_fit_say_why(tmp_path):
    with files_of_at_most(20_000), pytest.raises(OSError, match="File too large") as caught:
        save_tensors(tmp_path / "last.ckpt", {"weights": _NUMBERS})
    assert caught.value.errno == errno.EFBIG
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_what_hinders_the_rename_names_the_file(tmp_path, monkeypatch, number):
    def refuse(source, target):
        raise OSError(number, os.strerror(number), str(source))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        write_json(tmp_path / "test.json", {})
    assert one_line(caught.value).startswith(f"{os.strerror(number)}: {tmp_path / 'test.json'}: ")
    assert not os.listdir(tmp_path)


def test_a_file_in_the_way_a_folder_in_its_place_and_a_long_name(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    for path in (tmp_path / "file" / "x.json", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            write_json(path, {})
        assert str(tmp_path) in one_line(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


class _Failing(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "a.jpg"), "Permission denied: a.jpg: change"),
        (UniEmoError("--x must be 1; got 2"), "--x must be 1; got 2"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files: raise the limit"),
        (
            RuntimeError("Too many open files. Communication with the workers\nis off"),
            "Too many open files: raise the limit",
        ),
    ],
)
def test_an_error_in_a_loader_process_is_the_same_line(error, line):
    with pytest.raises(type(error)) as caught:
        next(iter(DataLoader(_Failing(error), num_workers=1)))
    assert one_line(caught.value).startswith(line)


def test_other_errors_are_not_explained_away():
    assert one_line(OSError("cannot identify image file")) is None
    assert one_line(KeyError("x")) is None
    bug = KeyError("a bug")
    bug.__context__ = FileNotFoundError(errno.ENOENT, "No such file or directory", "handled")
    assert one_line(bug) is None


def test_a_full_cache_names_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path))
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        error = OSError(number, os.strerror(number), str(tmp_path / "latents" / "x"))
        assert one_line(error).endswith("or set UNIEMO_CACHE to a folder elsewhere")
    assert "UNIEMO_CACHE" not in one_line(OSError(errno.ENOSPC, "", str(tmp_path.parent / "run")))


def test_a_standard_output_that_is_full(monkeypatch, capsys):
    full = io.TextIOWrapper(open("/dev/full", "wb"))  # noqa: SIM115
    monkeypatch.setattr(sys, "stdout", full)
    assert main(["--help"]) == 2
    assert capsys.readouterr().err.startswith("error: No space left on device: standard output")
    assert sys.stdout is not full  # nothing is left to complain at the end of Python
    with pytest.raises(OSError, match="No space"):
        full.close()
