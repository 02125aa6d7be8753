"""Counting the bytes of tensors that are alive."""

import torch

from benchmarks.memory import LiveBytes


def test_tensors_count_from_making_to_end_and_views_not_twice():
    with LiveBytes() as live:
        first = torch.zeros(1000)
        assert live.now == 4000
        second = first.view(10, 100)[2:]
        assert live.now == 4000
        third = second * 2  # 800 numbers
        assert live.now == 7200
        del first
        assert live.now == 7200  # its view holds it
        del second
        assert live.now == 3200
        third.mul_(2)
        assert live.now == 3200
        del third
    assert live.now == 0
    assert live.peak == 7200


def test_what_the_backward_pass_needs_stays_until_it_has_run():
    weight = torch.ones(100, 100, requires_grad=True)
    live = LiveBytes()
    live.add([weight])
    assert live.now == 40_000
    with live:
        inner = torch.ones(50, 100) @ weight  # keeps its input and gives 50 x 100
        outer = inner.sigmoid()  # keeps what it gives
        del inner
        assert live.now == 40_000 + 2 * 20_000
        outer.sum().backward()
        del outer
    assert live.now == 2 * 40_000  # the weight and its gradient
    assert live.peak >= 2 * 40_000 + 2 * 20_000
