"""YAML and JSON of others: bombs, deep nesting, wrong bytes, pipes, each one line and none waits."""

import json
import os
import socket

import pytest

from tests.refusals import refused
from tests.tiny_runs import assets, recipe
from uniemo.data.generated import read_index
from uniemo.data.images import read_image, verify_image
from uniemo.data.lists import read_text
from uniemo.errors import UniEmoError, one_line
from uniemo.text_files import check_yaml, parse_json, parse_yaml, read_bytes, read_json, read_yaml


def bomb(first, line):
    return "\n".join(["model: &a0 " + first, *(f"{line(f'a{i}', f'*a{i - 1}')}" for i in range(1, 12))])


BOMBS = {
    "lists": bomb("[x, x, x, x]", lambda name, one: f"{name}: &{name} [{', '.join([one] * 9)}]"),
    "sections": bomb("{x: 1}", lambda name, one: f"{name}: &{name} {{{', '.join(f'k{i}: {one}' for i in range(9))}}}"),
    "merges": bomb("{x: 1}", lambda name, one: f"{name}: &{name} {{<<: [{', '.join([one] * 9)}]}}"),
    "itself": "model: &a [*a]",
    "deep": "model: " + "[" * 400 + "]" * 400,
    "deeper": "[" * 3000,
    "indented": "\n".join(" " * depth + "a:" for depth in range(200)),
}
WRONG_YAML = [
    "a: 2024-99-99",
    "a: !!python/object/apply:os.getcwd []",
    "a: !!int ''",
    "{[1]: 2}",
    "\0",
    "a: " + "9" * 5000,
]


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_and_deep_nesting(name):
    for read in (parse_yaml, check_yaml):
        with pytest.raises(ValueError, match=r"^it (holds more than 100,000 values|is nested deeper than 100 levels)"):
            read(BOMBS[name])


@pytest.mark.parametrize("text", WRONG_YAML)
def test_wrong_yaml_has_a_reason_of_one_line(text):
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_plain_yaml_with_aliases():
    assert parse_yaml("a: &x {b: 1}\nc: {<<: *x, d: [*x, *x]}\n") == {"a": {"b": 1}, "c": {"b": 1, "d": [{"b": 1}] * 2}}
    assert parse_yaml("") is None
    assert parse_yaml("[" * 90 + "]" * 90)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 200 + "]" * 200, '{"a":' * 200 + "1" + "}" * 200])
def test_deep_json(text):
    with pytest.raises(ValueError, match="nested deeper than 100 levels"):
        parse_json(text)


def test_bytes_that_are_no_utf_8(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'{"a": "\xff"}')
    for read in (read_json, read_yaml):
        with pytest.raises(ValueError, match="it is no UTF-8: byte 8 is 0xff"):
            read(path)
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path) == read_yaml(path) == [1]


@pytest.fixture
def specials(tmp_path):
    """A pipe that nobody writes into, a device without end, and a socket."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(tmp_path / "socket"))
        yield [tmp_path / name for name in ("pipe", "zero", "socket")]


@pytest.mark.timeout(20)
def test_what_is_no_file_is_never_opened(specials):
    for path in specials:
        for read in (read_bytes, read_json, read_yaml, read_text):
            with pytest.raises(OSError, match="not a regular file") as caught:
                read(path)
            assert one_line(caught.value) == f"not a regular file but a pipe, a device or a socket: {path}"
        with pytest.raises(UniEmoError, match="not a regular file"):
            read_image(path)
        assert "not a regular file" in verify_image(path)


def test_index_that_is_no_utf_8_or_nested(tmp_path):
    path = tmp_path / "index.jsonl"
    path.write_bytes(b'{"file": "\xff.png"}\n')
    with pytest.raises(UniEmoError, match=r"must be JSON Lines; it is no UTF-8: byte 11 is 0xff: generate again"):
        read_index(path)
    path.write_text('{"file": "a.png"}\n' + "[" * 3000)
    with pytest.raises(UniEmoError, match=r"line 2 is not \(it is nested deeper than 100 levels\)"):
        read_index(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_in_configurations(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bomb.yaml").write_text(BOMBS[name])
    line = refused(capsys, "fit", "--config", "bomb.yaml")
    assert "--config must be a YAML file; bomb.yaml is not (it " in line
    line = refused(capsys, *recipe("understanding"), "--model", "bomb.yaml")  # a section may be a file too
    assert "model must be a section of keys; got bomb.yaml (it " in line


def test_wrong_files_of_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"model: {\xe9: 1}\n")
    assert "latin.yaml is not (it is no UTF-8: byte 9 is 0xe9)" in refused(capsys, "fit", "--config", "latin.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "--config must name a file" in refused(capsys, "fit", "--config", "pipe.yaml")
    (tmp_path / "list.json").write_text("[" * 5000)
    line = refused(capsys, *recipe("understanding"), "--data.split_file", "list.json", "--run_dir", "run")
    assert "data.split_file must be JSON; list.json is not (it is nested deeper than 100 levels)" in line


def test_a_tree_with_a_pipe_in_place_of_a_list(tmp_path, capsys):
    tree = tmp_path / "tree"
    tree.mkdir()
    for path in (assets() / "tree").iterdir():
        (tree / path.name).symlink_to(path)
    (tree / "info.json").unlink()
    os.mkfifo(tree / "info.json")
    line = refused(capsys, *recipe("understanding"), "--data.root", tree, "--run_dir", tmp_path / "run")
    assert str(tree) in line


def test_permission_denied(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({}))

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", denied)  # root may read everything
    assert refused(capsys, "fit", "--config", path).startswith(f"error: Permission denied: {path}: change")
