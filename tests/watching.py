"""What a command does to the machine, seen by Python's audit hook: programs, addresses, changed files."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  # makes its folders and asks for fonts, once, before anyone watches

_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}
_ADDRESSES = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_seen: list[str] | None = None
_allowed: tuple[str, ...] = ()


class WatchedError(BaseException):
    """Ends what was about to happen; no ``except Exception`` of a library swallows it."""


def _hook(event, arguments):
    if _seen is None:
        return
    if event in _PROGRAMS or (event in _ADDRESSES and not str(arguments[1]).startswith("/")):
        _seen.append(f"{event} {arguments}")
        raise WatchedError(_seen[-1])
    paths = ()
    if event == "open" and isinstance(arguments[0], str | bytes) and (arguments[2] or 0) & _WRITE:
        paths = arguments[:1]
    elif event in _CHANGES:
        paths = [path for path in arguments if isinstance(path, str | bytes | os.PathLike)]
    for path in paths:
        place = os.path.abspath(os.fsdecode(path))
        if not place.startswith((*_allowed, "/dev/")) and "__pycache__" not in place:
            _seen.append(f"{event} {place}")


sys.addaudithook(_hook)


@contextmanager
def watched(*folders: Path):
    """Yield the list of what happens: programs and addresses, which are stopped, and changes outside ``folders``."""
    global _seen, _allowed
    _seen, _allowed = [], tuple(str(Path(folder).resolve()) for folder in folders)
    try:
        yield _seen
    finally:
        _seen = None
