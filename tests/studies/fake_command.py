"""Stands for ``uniemo`` in tests of the runner: leaves what the commands leave, in no time.

It appends its words to the file CALLS, one JSON list a line. Among the words of a command, ``--fail`` ends it with an
error, ``--once FILE`` stops for ever the first time (FILE is made then), ``--accuracy X`` is what a test finds.
"""

import json
import os
import sys
import time
from pathlib import Path

words = sys.argv[1:]
options = {word: words[number + 1] for number, word in enumerate(words[:-1]) if word.startswith("--")}
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([*words, os.environ.get("OMP_NUM_THREADS", "")]) + "\n")
folder = Path(options.get("--run_dir") or options["--out"])
folder.mkdir(parents=True, exist_ok=True)
print("working", flush=True)
if words[0] == "fit":
    (folder / "last.ckpt").touch()
if "--once" in options and not Path(options["--once"]).exists():
    Path(options["--once"]).touch()
    time.sleep(600)
if "--fail" in words:
    print("error: this is why")
    sys.exit(2)
if words[0] == "fit":
    (folder / "best.ckpt").touch()
if words[0] == "test":
    assert Path(options["--ckpt"]).is_file()
    figures = {"test/accuracy": float(options["--accuracy"]), "test/FID[tiny]": 3.0, "test/FID[tiny]/awe": 9.0}
    (folder / "test.json").write_text(json.dumps(figures))
