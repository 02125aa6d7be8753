import pytest
from trees import painted_emoset


@pytest.fixture(scope="session")
def emoset_root(tmp_path_factory):
    return painted_emoset(tmp_path_factory.mktemp("painted") / "emoset")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for each test."""
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
