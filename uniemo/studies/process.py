"""Commands as processes of their own: their output in a file, their time and memory, and how they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

GRACE = 20.0  # seconds that a stopped command has, to end by itself


class Stopped(Exception):
    """The run was stopped before this command had ended."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, seconds, and bytes of memory of its largest process."""

    code: int
    seconds: float
    peak_memory: int


@dataclass
class Processes:
    """The commands that run at the moment.

    Attributes:
        program: words that start ``uniemo``.
        keep_open: a file descriptor that every command inherits, the lock of the work folder.
    """

    program: Sequence[str] = (sys.executable, "-m", "uniemo")
    keep_open: int | None = None
    _running: set[int] = field(default_factory=set)
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, words: Sequence[str], log: Path, environment: dict[str, str]) -> Ended:
        """Run a command to its end, its output appended to ``log``.

        Args:
            words: behind the program's own.
            log: file.
            environment: variables that differ from this process's.

        Raises:
            Stopped: :meth:`stop` was called.
        """
        start = time.monotonic()
        with open(log, "ab") as output:
            with self._lock:
                if self._stopped:
                    raise Stopped
                process = subprocess.Popen(
                    [*self.program, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment},
                    pass_fds=() if self.keep_open is None else (self.keep_open,),
                    start_new_session=True,  # Ctrl-C reaches it through stop() alone
                )
                self._running.add(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            with self._lock:
                self._running.discard(process.pid)
        if self._stopped:
            raise Stopped
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        return Ended(process.returncode, time.monotonic() - start, usage.ru_maxrss * unit)

    def stop(self, grace: float = GRACE) -> None:
        """Ask every command to end, and end those that do not within ``grace`` seconds."""
        with self._lock:
            self._stopped = True
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to every command and to what it has started."""
        with self._lock:
            for pid in self._running:
                try:
                    os.killpg(pid, number)
                except ProcessLookupError:  # it has just ended
                    continue


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else "(no output)"
