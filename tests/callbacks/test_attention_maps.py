import pytest
import torch

from uniemo import UniEmoError
from uniemo.callbacks import AttentionMaps
from uniemo.callbacks.attention_maps import coverage, overlay


def test_coverage_by_hand():
    masks = torch.zeros(2, 1, 4, 4)
    masks[0, :, :2, :2] = 1  # the upper left patch of a 2 x 2 grid
    masks[1, :, :, :1] = 1  # half of both left patches
    attention = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1]]).view(2, 2, 2)
    assert coverage(attention, masks).tolist() == pytest.approx([0.7, 0.5 * 0.4 + 0.5 * 0.2])


def test_coverage_of_even_attention_is_the_area():
    masks = (torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    even = torch.full((5, 4, 4), 1 / 16)
    torch.testing.assert_close(coverage(even, masks), masks.mean(dim=(1, 2, 3)))


def test_overlay_is_brightest_where_looked_at():
    attention = torch.zeros(1, 4, 4)
    attention[0, 1, 2] = 1.0
    picture = overlay(torch.full((1, 3, 32, 32), 0.5), attention)
    assert picture.shape == (1, 3, 32, 32)
    assert 0 <= picture.min() <= picture.max() <= 1
    bright = picture[0].sum(dim=0)
    row, column = divmod(int(bright.argmax()), 32)
    assert (row // 8, column // 8) == (1, 2)


def test_ranges():
    with pytest.raises(UniEmoError, match=r"attention_maps\.images"):
        AttentionMaps(images=-1)
