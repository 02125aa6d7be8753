"""Commands and calls that must fail with one line."""

from contextlib import contextmanager

import pytest

from uniemo.cli import main
from uniemo.errors import UniEmoError


def refused(capsys, *args):
    """Run a command that must fail; return its one line."""
    capsys.readouterr()
    assert main([str(arg) for arg in args]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@contextmanager
def one_line_error(match):
    """Expect a UniEmoError of one line."""
    with pytest.raises(UniEmoError, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)
