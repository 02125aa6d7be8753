"""The one exception that a user of the command line ever reads, and the ranges of numbers whose breach it tells."""

from __future__ import annotations

import errno
import inspect
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # reported without the file's name


class UniEmoError(ValueError):
    """A mistake that the user can mend.

    The message is one line that names the argument, the rule, the value and the way out. The command line prints it and
    exits with code 2; from Python it is an ordinary ``ValueError``.
    """


def one_line(error: BaseException) -> str | None:
    """Return the line for an error that the user can mend; None for any other."""
    if isinstance(error, UniEmoError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _DISK):
        return f"{error.strerror or error}" + ("" if error.filename is None else f": {error.filename}")
    return None


@dataclass(frozen=True)
class Range:
    """The values that a number may take, in the type of its argument: ``Annotated[float, Range(0, 1)]``.

    Attributes:
        low: the smallest value.
        high: the largest value.
        above: ``low`` itself is out.
        below: ``high`` itself is out.
        zero: 0 is in as well, for none.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    zero: bool = False

    def check(self, name: str, value: float) -> None:
        """Raise UniEmoError, which names the argument, for a value out of range; nan and infinity always are."""
        none = "0 or " if self.zero else ""
        if self.zero and value == 0:
            return
        if not (value > self.low if self.above else value >= self.low):  # nan, too
            raise UniEmoError(f"{name} must be {none}{'above' if self.above else 'at least'} {self.low}; got {value}")
        if math.isinf(value):
            raise UniEmoError(f"{name} must be finite; got {value}")
        if not (value < self.high if self.below else value <= self.high):
            raise UniEmoError(f"{name} must be {none}{'below' if self.below else 'at most'} {self.high}; got {value}")


# Upper ends are far beyond any use, so that a slip of the hand is named before it asks for memory.
Count = Annotated[int, Range(1, 2**31 - 1)]
Natural = Annotated[int, Range(0, 2**31 - 1)]
Width = Annotated[int, Range(1, 2**16)]  # of layers and images, and lengths of token sequences
Batch = Annotated[int, Range(1, 2**20)]
Steps = Annotated[int, Range(1, 10_000)]  # of denoising; models are trained on 1,000
Processes = Annotated[int, Range(1, 1024)]  # or threads
Workers = Annotated[int, Range(0, 1024)]
Seed = Annotated[int, Range(0, 2**32 - 1)]  # as NumPy's
Guidance = Annotated[float, Range(0, 1000)]
Folds = Annotated[int, Range(2, 10_000)]
Positive = Annotated[float, Range(0, 1e30, above=True)]  # Adam computes in float32, which ends at 3e38
NonNegative = Annotated[float, Range(0, 1e30)]
Share = Annotated[float, Range(0, 1)]
PartialShare = Annotated[float, Range(0, 1, below=True)]
OpenShare = Annotated[float, Range(0, 1, above=True, below=True)]
Temperature = Annotated[float, Range(1e-4, 1e4)]  # of a softmax over cosines; outside it is one class or uniform


def check_ranges(owner: type, values: Mapping[str, Any], section: str = "") -> None:
    """Raise UniEmoError for the first number that lies out of the range in the type of its argument.

    Args:
        owner: a dataclass or another class; where its ``__init__`` takes ``**options``, its parents' count as well.
        values: its arguments' by name, a section's as a mapping of its own; what is no argument is passed over.
        section: what stands before an argument's name, for example ``model.optimizer.``.
    """
    for name, hint in argument_types(owner).items():
        if values.get(name) is not None:
            _check(f"{section}{name}", hint, values[name])


def argument_types(owner: type) -> dict[str, Any]:
    """Return the types of a class's arguments, ranges included."""
    if is_dataclass(owner):
        return typing.get_type_hints(owner, include_extras=True)
    hints: dict[str, Any] = {}
    for kind in owner.__mro__:
        if "__init__" in vars(kind):
            init = vars(kind)["__init__"]
            hints = {**typing.get_type_hints(init, include_extras=True), **hints}
            if not any(one.kind == one.VAR_KEYWORD for one in inspect.signature(init).parameters.values()):
                break
    return {name: hint for name, hint in hints.items() if name != "return"}


def _check(name: str, hint: Any, value: Any) -> None:  # noqa: ANN401
    """Check a value, and those inside it, against a type."""
    if isinstance(hint, type) and is_dataclass(hint):
        if isinstance(value, Mapping):
            check_ranges(hint, value, f"{name}.")
        return
    if typing.get_origin(hint) is Annotated:
        for rule in hint.__metadata__:
            if isinstance(rule, Range) and isinstance(value, int | float):
                rule.check(name, value)
        return
    for inner in typing.get_args(hint):
        for item in value if isinstance(value, list | tuple) else (value,):
            _check(name, inner, item)
