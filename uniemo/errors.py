"""The one exception that a user of the command line reads, ranges of numbers, and errors of the operating system."""

from __future__ import annotations

import errno
import inspect
import math
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any

_FULL = "free some space there, or write to another disk"
_FORBIDDEN = "change its permissions, or choose another place"
_READ_ONLY = "choose a folder that can be written to"
_CACHE = "free some space there, make it writable, or set UNIEMO_CACHE to a folder elsewhere"
_MANY = "raise the limit (ulimit -n), or set a smaller --data.num_workers"
_WAYS_OUT = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM), _FORBIDDEN),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _MANY),
    errno.EROFS: _READ_ONLY,
    errno.EIO: "look whether its disk is full, there and well, or choose another",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a folder in its path is a file, correct the path",
    errno.EISDIR: "it is a folder, give a file",
    errno.ENOENT: "correct the path; something may have removed it meanwhile",
}
# how Python, Arrow and Rust print an error of the operating system
_PRINTED = re.compile(r"\[Errno (\d+)\](?:[^'\n]*(?:: |file )'([^']+)')?|\(os error (\d+)\)")
# what torch, NumPy and Pillow say, without the reason, of a file that they could not write to its end
_CUT_SHORT = re.compile(
    r"unexpected pos \d+ vs|iostream error|PytorchStreamWriter|requested and \d+ written|when writing image file"
)
_WORKER = re.compile(r"^Caught \w+ in .*^uniemo\.errors\.UniEmoError: (.*)", re.DOTALL | re.MULTILINE)


class UniEmoError(ValueError):
    """A mistake that the user can mend.

    The message is one line that names the argument, the rule, the value and the way out. The command line prints it and
    exits with code 2; from Python it is an ordinary ``ValueError``.
    """


def one_line(error: BaseException) -> str | None:
    """Return the line for an error that the user can mend; None for any other."""
    if isinstance(error, UniEmoError):
        text = str(error)
        worker = _WORKER.search(text)  # PyTorch puts a worker process's traceback before its message
        return " ".join((text if worker is None else worker[1]).split())
    found = system_error(error)
    if found is None or (found.filename is None and found.errno not in _WAYS_OUT):
        return None
    way_out = _WAYS_OUT.get(found.errno or 0)
    if way_out in (_FULL, _FORBIDDEN, _READ_ONLY) and found.filename is not None:
        way_out = _CACHE if cache_root() in Path(os.fsdecode(found.filename)).absolute().parents else way_out
    parts = [found.strerror, found.filename, way_out]
    return ": ".join(" ".join(os.fsdecode(part).split()) for part in parts if part)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def cache_root() -> Path:
    """Return where the cache lies (``UNIEMO_CACHE``, else ``~/.cache/uniemo``)."""
    return Path(os.environ.get("UNIEMO_CACHE") or Path.home() / ".cache" / "uniemo").absolute()


def system_error(error: BaseException | None) -> OSError | None:
    """Return the operating system's error that an error is, wraps or prints; None where it has to do with none."""
    while error is not None and not isinstance(error, UniEmoError):
        text = str(error).rstrip().rpartition("\n")[2]
        printed, cut = _PRINTED.search(text), _CUT_SHORT.search(text)
        if isinstance(error, OSError) and error.filename is not None:
            return error
        if "Too many open files" in str(error):  # of PyTorch's loader, whose advice is for programmers
            return OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if printed is not None:
            number = int(printed[1] or printed[3])
            return OSError(number, os.strerror(number), *([printed[2]] if printed[2] else []))
        if isinstance(error, OSError) and error.errno is not None:
            return OSError(error.errno, os.strerror(error.errno))
        if cut is not None:
            return system_error(error.__context__) or OSError(errno.EIO, "Could not be written to its end")
        error = error.__cause__
    return None


@contextmanager
def naming(path: Path, temporary: str = "") -> Iterator[None]:
    """Let an error of the operating system in this block name a file, or its folder, where it names none.

    Names that begin with ``temporary`` stand for ``path``: the user does not know them.
    """
    try:
        yield
    except Exception as error:
        found = system_error(error)
        if found is None:
            raise
        names = [str(name) for name in (found.filename, found.filename2) if name is not None]  # two where one is copied
        if names and not (temporary and any(name.startswith(temporary) for name in names)):
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error


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
Rating = Annotated[float, Range(-1e6, 1e6)]  # of valence or arousal, on a scale of people's own


def range_of(kind: Any) -> Range:  # noqa: ANN401
    """Return the range in a type such as :data:`Count`."""
    (rule,) = kind.__metadata__
    return rule


def check_ranges(owner: type | Callable[..., Any], values: Mapping[str, Any], section: str = "") -> None:
    """Raise UniEmoError for the first number that lies out of the range in the type of its argument.

    Args:
        owner: a function or a class; where its ``__init__`` takes ``**options``, its parents' arguments count as well.
        values: its arguments' by name, a section's as a mapping of its own; what is no argument is passed over.
        section: what stands before an argument's name, for example ``model.optimizer.``.
    """
    for name, hint in argument_types(owner).items():
        if values.get(name) is not None:
            _check(f"{section}{name}", hint, values[name])


def argument_types(owner: type | Callable[..., Any]) -> dict[str, Any]:
    """Return the types of the arguments of a function or class, ranges included."""
    if is_dataclass(owner) or not isinstance(owner, type):
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
