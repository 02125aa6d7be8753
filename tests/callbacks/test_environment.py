import json
import time

import torch

from tests.tiny_runs import trained
from uniemo.cli import main


def test_a_test_says_where_with_what_and_for_how_long_it_ran(tmp_path, capsys):
    checkpoint = trained("understanding") / "best.ckpt"
    before = time.time()
    assert main(["test", "--ckpt", str(checkpoint), "--run_dir", str(tmp_path), "--trainer.accelerator", "cpu"]) == 0
    took = time.time() - before
    facts = json.loads((tmp_path / "test_environment.json").read_text())
    assert 0 < facts["seconds"] <= took
    assert torch.__version__.startswith(facts["versions"]["torch"])
    assert facts["devices"] == "1 × cpu"
    assert facts["checkpoint"] == str(checkpoint)
    assert float(facts["peak memory"].removesuffix(" GiB")) > 0.1
    assert not (tmp_path / "fit_environment.json").exists()
    fit = json.loads((checkpoint.parent / "fit_environment.json").read_text())
    assert "checkpoint" not in fit  # it started from nothing

    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<dd>{checkpoint}</dd>" in page
    assert f"torch {facts['versions']['torch']}" in page
    assert "Attention of the scene and object queries, test" in page
