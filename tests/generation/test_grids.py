import numpy as np
import torch

from uniemo.generation.grids import image_grid, to_pil


def test_colours_are_rounded_not_cut():
    image = torch.tensor([0.0, 127.6 / 255, 1.2]).view(3, 1, 1).expand(3, 2, 2)
    assert np.asarray(to_pil(image))[0, 0].tolist() == [0, 128, 255]


def test_grid_has_a_row_for_each_label():
    rows = {"awe": torch.zeros(3, 3, 8, 8), "contentment": torch.ones(1, 3, 8, 8)}
    grid = image_grid(rows, zoom_to=16)
    assert grid.height == 2 * (16 + 2)
    assert grid.width >= 3 * (16 + 2)
    pixels = np.asarray(grid)
    left = grid.width - 3 * (16 + 2)
    assert (pixels[1:17, left : left + 16] == 0).all()  # a black image in the first row
    assert (pixels[19:35, left:] == 255).all()  # a white one, and nothing behind it, in the second
