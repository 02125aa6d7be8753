"""Real material beside the checkout, which tests read in place; it is no part of the project."""

from pathlib import Path

import pytest

REAL = Path(__file__).parents[2] / "shared" / "real"


def real(name):
    """Return a folder of it; skip the test where it is absent."""
    if not (REAL / name).is_dir():
        pytest.skip(f"no {REAL / name}")
    return REAL / name
