"""Imports without garbage collection."""

import gc

import pytest

from uniemo.cli import collecting_later


def test_collector_is_off_inside_and_as_before_afterwards():
    assert gc.isenabled()
    with collecting_later():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with collecting_later():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_collector_comes_back_after_an_error():
    with pytest.raises(ValueError, match="x"), collecting_later():
        raise ValueError("x")
    assert gc.isenabled()
