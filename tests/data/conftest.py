import pytest
from trees import painted_emoset


@pytest.fixture(scope="session")
def emoset_root(tmp_path_factory):
    return painted_emoset(tmp_path_factory.mktemp("painted") / "emoset")
