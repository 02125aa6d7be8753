"""A small released checkpoint and what it is converted to, made once."""

import pytest
import torch
from convert.released_files import classifier_state, convert, released_state, whole_file


@pytest.fixture(scope="session")
def best(tmp_path_factory):
    """A small best.pth that takes the miniature's images, and its states."""
    state, classifier = released_state(64, 3, 8, 64, 4, 32, text=64, vocab=49408, context=77), classifier_state(64, 48)
    path = tmp_path_factory.mktemp("released") / "best.pth"
    torch.save(whole_file(state, classifier), path)
    return path, state, classifier


@pytest.fixture(scope="session")
def converted(best):
    output = best[0].with_name("x.ckpt")
    assert convert(best[0], output) == 0
    return output
