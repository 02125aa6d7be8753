import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny_runs import recipe
from uniemo.callbacks.summary import format_table
from uniemo.cli import main


def test_columns_are_aligned_and_groups_apart():
    text = format_table({"val/accuracy": 0.5, "loss/scene": 1.23456, "loss/total": 12.0}, "end")
    assert text.splitlines() == [
        "end",
        "  loss/scene        1.2346",
        "  loss/total       12.0000",
        "",
        "  val/accuracy      0.5000",
    ]


def test_without_metrics():
    assert "no metrics" in format_table({}, "end")


def test_losses_are_means_over_the_last_epoch(tmp_path, capsys):
    args = [*recipe("understanding"), "--run_dir", str(tmp_path / "run"), "--data.batch_size", "20"]
    assert main([*args, "--trainer.max_epochs", "2"]) == 0
    table = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  loss/"))
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    for name, shown in table.items():
        values = [event.value for event in events.Scalars(name)]
        assert len(values) == 6
        assert float(shown) == round(np.average(values[3:], weights=[20, 20, 8]), 4)  # 48 images
