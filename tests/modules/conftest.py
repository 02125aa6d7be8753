import pytest

from tests.tiny_runs import assets


@pytest.fixture(autouse=True)
def run_folder(tmp_path, monkeypatch):
    """Run in an empty folder, with the cache that all tiny runs share."""
    monkeypatch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
    monkeypatch.chdir(tmp_path)
