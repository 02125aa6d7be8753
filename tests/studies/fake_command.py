"""Stands for ``uniemo`` in tests of the runner: leaves what the commands leave, in no time.

It appends its arguments to the file CALLS, one JSON list a line. ``--fail`` ends it with an error, ``--once FILE``
hangs the first time (FILE is made then), ``--meet FOLDER`` waits until two commands are there, ``--accuracy X`` is what
a test finds.
"""

import json
import os
import sys
import time
from pathlib import Path

args = sys.argv[1:]
options = {arg: args[number + 1] for number, arg in enumerate(args[:-1]) if arg.startswith("--")}
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([*args, os.environ["OMP_NUM_THREADS"], os.environ.get("CUDA_VISIBLE_DEVICES", "")]) + "\n")
folder = Path(options.get("--run_dir") or options["--out"])
folder.mkdir(parents=True, exist_ok=True)
print("working", flush=True)
if args[0] == "fit":
    (folder / "last.ckpt").touch()
if "--once" in options and not Path(options["--once"]).exists():
    Path(options["--once"]).touch()
    time.sleep(600)
if "--meet" in options:
    meeting, deadline = Path(options["--meet"]), time.monotonic() + 30
    meeting.mkdir(exist_ok=True)
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
if "--fail" in args:
    print("error: this is why")
    sys.exit(2)
if args[0] == "fit":
    (folder / "best.ckpt").touch()
if args[0] == "test":
    assert Path(options["--ckpt"]).is_file()
    metrics = {"test/accuracy": float(options["--accuracy"]), "test/FID[tiny]": 3.0, "test/FID[tiny]/awe": 9.0}
    (folder / "test.json").write_text(json.dumps(metrics))
    (folder / "test_generation.json").write_text(json.dumps({"space": "mixture"}))
