"""A run of two processes of which one is killed ends with an error, soon, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.distributed.crew import enough_cores
from tests.tiny_runs import assets, recipe

pytestmark = [
    pytest.mark.skipif(not enough_cores, reason="two processes need two cores"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc"),
    pytest.mark.timeout(600),
]

SOON = 120  # seconds, on a machine that has much else to do; alone it takes 5 to 15
FIT = [
    *("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"),
    *("--trainer.max_epochs", "100000", "--trainer.check_val_every_n_epoch", "100000"),
    *("--data.batch_size", "8"),
]


def processes(run):
    """Return the processes of a run by the name that their launcher gave them; ``agent`` is torchrun itself."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            args = (folder / "cmdline").read_bytes().decode().split("\0")
            variables = dict(pair.split("=", 1) for pair in (folder / "environ").read_bytes().decode().split("\0")[:-1])
        except (OSError, ValueError):
            continue  # it has just ended, or is another user's
        if str(run) in args:
            agent = "torch.distributed.run" in args
            found["agent" if agent else variables.get("LOCAL_RANK", "0")] = int(folder.name)
    return found


def wait_for(what, seconds, started):
    """Wait until ``what()`` is true; whether it became so in time, and before the run had ended."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end or (started is not None and started.poll() is not None):
            return False
        time.sleep(0.2)
    return True


LIGHTNING = ["uniemo"]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "uniemo"]


@pytest.mark.parametrize(
    ("launcher", "victim"),
    [
        (LIGHTNING, "1"),
        pytest.param(LIGHTNING, "0", marks=pytest.mark.slow),
        pytest.param(TORCHRUN, "1", marks=pytest.mark.slow),
        pytest.param(TORCHRUN, "0", marks=pytest.mark.slow),
        pytest.param(TORCHRUN, "agent", marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_killed_process_ends_the_run(tmp_path, launcher, victim):
    run = tmp_path / "run"
    args = [sys.executable, "-m", *launcher, *recipe("understanding"), *FIT, "--run_dir", str(run)]
    environment = os.environ | {"UNIEMO_CACHE": str(assets() / "cache"), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "screen").open("w") as screen:
        started = subprocess.Popen(args, stdout=screen, stderr=subprocess.STDOUT, cwd=tmp_path, env=environment)
    try:
        begun = wait_for((run / "last.ckpt").exists, 400, started)  # it is in its second epoch
        assert begun, (tmp_path / "screen").read_text()
        os.kill(processes(run)[victim], signal.SIGKILL)
        assert started.wait(SOON) != 0
        assert wait_for(lambda: not processes(run), SOON, None), "processes are left"
    finally:
        for process in processes(run).values():
            os.kill(process, signal.SIGKILL)
        started.wait()
    screen = (tmp_path / "screen").read_text()
    if launcher == LIGHTNING:
        assert "Traceback" not in screen
        assert screen.count("every process of a run must stay alive") == 1
    assert "every process of a run must stay alive" in screen


def test_a_process_whose_launcher_has_died_ends(tmp_path):
    """Also where it waits for something that never comes and no connection breaks."""
    child = (
        "import time\n"
        "from uniemo.launch import ending_with_parent\n"
        "with ending_with_parent(period=0.1, grace=0.2):\n"
        f"    open({str(tmp_path / 'ready')!r}, 'w').close(); time.sleep(600)\n"
    )
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with (tmp_path / "screen").open("w") as screen:
        parent = subprocess.Popen([sys.executable, "-c", launcher], stderr=screen)
    ready = tmp_path / "ready"
    assert wait_for(ready.exists, 100, parent)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 20, None)
    assert (tmp_path / "screen").read_text().startswith("error: every process of a run must stay alive")
