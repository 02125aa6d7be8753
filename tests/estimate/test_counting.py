"""Counting the bytes of tensors that are alive, and operations, on tensors without numbers."""

import pytest
import torch
import torch.nn.functional as F

from uniemo.estimate.counting import LiveBytes, operations, shapes_alone


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


def test_shapes_have_no_numbers_but_code_that_asks_goes_on():
    with shapes_alone():
        huge = torch.zeros(10**6, 10**6)  # four terabytes
        assert (huge @ huge).shape == (10**6, 10**6)
        assert bool((huge > 1).any())
        assert (float(huge.mean()), int(torch.randint(9, ()))) == (1.0, 1)


@pytest.mark.parametrize("learns", [False, True])
def test_operations_by_hand(learns):
    """2 for each product: forward, and again for each gradient that is asked for."""
    with shapes_alone():
        weight, image = torch.zeros(7, 5, requires_grad=learns), torch.zeros(2, 3, 5, requires_grad=True)
        query = torch.zeros(2, 4, 6, 8, requires_grad=True)  # two samples, four heads, six tokens
        with operations() as counter:
            F.linear(image, weight).sum().backward()
            linear = counter.get_total_flops()
            F.scaled_dot_product_attention(query, query, query).sum().backward()
    assert linear == (2 + learns) * 2 * (2 * 3) * 5 * 7
    scores = 2 * (2 * 4) * 6 * 6 * 8  # as many again for the values
    assert counter.get_total_flops() - linear == pytest.approx(2 * scores * (1 + 2.5))  # scores are made anew: 5 of 4


def test_mixed_precision_normalises_in_float32():
    with shapes_alone():
        x, norm = torch.zeros(2, 8, dtype=torch.bfloat16), torch.nn.LayerNorm(8)
        with torch.autocast("cpu", torch.bfloat16):
            assert norm(x).dtype == torch.float32
