"""The code blocks of docs/extending.md run as they stand, on tiny networks."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.tiny_runs import assets
from uniemo.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FILES = re.compile(r'^```\w+ title="(\S+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def tiny(args, folder):
    """Make a command of the page small: tiny networks and data behind its configuration, few steps."""
    if args[0] == "fit":
        stage = "stage2.yaml" if "joint.yaml" in args else "stage1.yaml"
        overlay = assets() / stage
        if "mlp_probe.yaml" in args:  # another model's keys
            content = yaml.safe_load(overlay.read_text())
            model = {"init_args": {"encoder": {"clip": str(assets() / "clip")}}}
            overlay = folder / "overlay.yaml"
            overlay.write_text(yaml.safe_dump({"model": model, "data": content["data"], "trainer": content["trainer"]}))
        return [*args[:3], "--config", str(overlay), *args[3:]]
    if args[0] == "generate":
        return [*args, "--steps", "2"]
    return args


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the photographs of the page."""
    for number in range(24):
        path = tmp_path / "streets" / "photos" / ("calm", "tense")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (9 * number, 90, 200 - 7 * number)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("section", list(SECTIONS))
def test_section_runs(section, folder, capsys):
    for name, content in FILES.findall(SECTIONS[section]):
        (folder / name).write_text(content)
    (commands,) = COMMANDS.findall(SECTIONS[section])
    for line in commands.splitlines():
        args = tiny(shlex.split(line)[1:], folder)
        assert main(args) == 0, line
        if "--trust" in args and args[0] != "generate":  # without it nothing of the user's is imported
            capsys.readouterr()
            assert main([arg for arg in args if arg != "--trust"]) == 2
            assert "--trust" in capsys.readouterr().err
    if section == "A metric":
        assert "Brightness" in capsys.readouterr().out
    if section == "A fusion":
        assert len(list((folder / "awe").rglob("*.png"))) == 5  # four images and their grid
