import json

import pytest
import yaml
from small_study import FAKE, content

from uniemo.studies import make
from uniemo.studies.study_files import read_study
from uniemo.studies.work import WorkFolder


@pytest.fixture
def written(tmp_path):
    """Returns a function that writes a study's content and reads it back."""

    def write(values, name="tablex"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return read_study(str(path))

    return write


@pytest.fixture
def study(written):
    return written(content())


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Cells run the fake command; returns a function that lists the arguments of its calls so far."""
    path = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(path))
    monkeypatch.setattr(make, "PROGRAM", FAKE)
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def work(tmp_path):
    return WorkFolder(tmp_path / "work")
