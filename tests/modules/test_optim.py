import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from uniemo import UniEmoError
from uniemo.modules.optim import OptimizerConfig, freeze, parameter_groups, schedule


def parts():
    return {name: list(nn.Linear(2, 3).parameters()) for name in ("clip", "query", "head", "fusion")}


def test_groups_follow_the_table():
    groups = {group["name"]: group for group in parameter_groups(parts(), OptimizerConfig())}
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "clip": (8e-6, 1e-3),
        "query": (5e-4, 1e-3),
        "head": (1e-4, 1e-2),
        "head_vectors": (1e-4, 0.0),
        "fusion": (1e-3, 1e-3),
    }
    assert [parameter.ndim for parameter in groups["head"]["params"]] == [2]
    assert [parameter.ndim for parameter in groups["head_vectors"]["params"]] == [1]


def test_rate_of_zero_freezes():
    named, config = parts(), OptimizerConfig(lr_clip=0.0)
    freeze(named, config)
    assert not any(parameter.requires_grad for parameter in named["clip"])
    assert all(parameter.requires_grad for parameter in named["query"])
    assert "clip" not in {group["name"] for group in parameter_groups(named, config)}


def test_something_must_learn():
    named, config = parts(), OptimizerConfig(lr_clip=0, lr_query=0, lr_head=0, lr_fusion=0)
    freeze(named, config)
    with pytest.raises(UniEmoError, match="learning rate"):
        parameter_groups(named, config)


@pytest.mark.parametrize("change", [{"lr_head": -1.0}, {"warmup": -0.1}, {"final": 1.5}, {"lr_clip": math.nan}])
def test_ranges(change):
    with pytest.raises(UniEmoError, match=next(iter(change))):
        OptimizerConfig(**change)


def test_schedule_is_a_warmup_and_one_cosine():
    factors = [schedule(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0, abs=1e-12)
    assert all(a < b for a, b in pairwise(factors[:11]))
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert [schedule(step, 100, 10) for step in range(101)] == factors  # a number of steps instead of a share
    assert schedule(500, 100, 0.1, final=0.2) == pytest.approx(0.2)


def test_schedule_against_torch():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert schedule(step, 20, 0.0) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
