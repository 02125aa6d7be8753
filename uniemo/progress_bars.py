"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from uniemo.launch import launched_rank


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    shown: bool = True,
    **options: Any,  # noqa: ANN401
) -> tqdm[Any]:
    """Return tqdm's bar, which the first process alone shows, and only where standard error is a terminal.

    Args:
        iterable: counted as it goes; None for a bar that is updated by hand.
        desc: what stands before it.
        unit: what is counted.
        total: how many there are.
        shown: False hides it on a terminal, too.
        options: tqdm's own.
    """
    return tqdm(
        iterable, desc=desc, unit=unit, total=total, disable=None if shown and not launched_rank() else True, **options
    )
