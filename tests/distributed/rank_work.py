"""What ranks do in the tests of the launcher; importing this loads nothing large."""

import os
import signal
import time
from pathlib import Path

from uniemo.errors import UniEmoError


def write_names(folder, suffix):
    """Write the variables that a rank finds its place by."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS", "MASTER_PORT")
    Path(folder, f"{os.environ['RANK']}{suffix}").write_text(" ".join(os.environ[name] for name in names))


def fail(folder, how):
    """Let the second rank fail while the first works on."""
    if os.environ["RANK"] == "0":
        Path(folder, "first").write_text(str(os.getpid()))
        time.sleep(60)
    while not Path(folder, "first").exists():
        time.sleep(0.01)
    if how == "mistake":
        raise UniEmoError("--num must be smaller; got 7: take 6")
    if how == "path":
        Path(folder, "gone.txt").read_text()
    if how == "fault":
        raise RuntimeError("nobody has thought of this")
    os.kill(os.getpid(), signal.SIGKILL)
