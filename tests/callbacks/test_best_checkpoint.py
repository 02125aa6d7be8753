import types
from pathlib import Path

import pytest
import torch

from uniemo.callbacks.checkpoints import BestCheckpoint
from uniemo.errors import UniEmoError

BEST = str(Path("best.ckpt").resolve())


def choices(checkpoint, metrics, images=400):
    """Return which epochs' weights would be kept, feeding the callback one metric after the other."""
    strategy = types.SimpleNamespace(reduce_boolean_decision=lambda decision: decision)
    loader = types.SimpleNamespace(dataset=range(images))
    trainer = types.SimpleNamespace(strategy=strategy, val_dataloaders=loader)
    kept = []
    for epoch, metric in enumerate(metrics):
        value = torch.tensor(metric)
        if checkpoint.check_monitor_top_k(trainer, value):
            kept.append(epoch)
            checkpoint.best_k_models = {BEST: value}
            checkpoint.kth_best_model_path = BEST
    return kept


@pytest.mark.parametrize(
    ("standard_errors", "metrics", "images", "kept"),
    [
        (None, [0.90, 0.89, 0.90, 0.91], 400, [0, 3]),  # only a better value counts
        # sqrt(0.9 * 0.1 / 400) = 0.015: 0.89 is as good as 0.90, 0.87 is not, and 0.886 is still measured against 0.90
        (1.0, [0.90, 0.89, 0.87, 0.886, 0.884], 400, [0, 1, 3]),
        (1.0, [0.90, 0.89], 40_000, [0]),  # more validation images make the rule stricter
        (1.0, [0.5, float("nan"), 0.5], 400, [0, 2]),
    ],
)
def test_an_epoch_within_standard_errors_of_the_best_replaces_it(standard_errors, metrics, images, kept):
    options = {} if standard_errors is None else {"standard_errors": standard_errors}
    assert choices(BestCheckpoint(**options), metrics, images) == kept


def test_a_resumed_run_remembers_the_best_value():
    first = BestCheckpoint(standard_errors=1.0)
    choices(first, [0.90, 0.89])
    second = BestCheckpoint(standard_errors=1.0)
    second.dirpath = first.dirpath
    second.load_state_dict(first.state_dict())
    assert second.highest == pytest.approx(0.90)


def test_bad_arguments_are_refused():
    with pytest.raises(UniEmoError, match="standard_errors"):
        BestCheckpoint(standard_errors=-1.0)
    with pytest.raises(UniEmoError, match="mode min"):
        BestCheckpoint(mode="min", standard_errors=1.0)
