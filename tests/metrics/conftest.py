import pytest
from tiny import tiny_clip
from trees import painted_emoset

from uniemo.metrics import EvaluationNetworks


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="session")
def networks(clip_folder):
    return EvaluationNetworks(str(clip_folder))


@pytest.fixture(scope="session")
def emoset_root(tmp_path_factory):
    return painted_emoset(tmp_path_factory.mktemp("painted") / "emoset")
