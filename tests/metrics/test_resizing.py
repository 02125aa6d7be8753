import numpy as np
import pytest
from PIL import Image
from weight_files import pictures, tensor

from uniemo.metrics.resizing import clean_resize, eight_bit_resize


@pytest.mark.parametrize("size", [(64, 64), (299, 299), (700, 300), (333, 500), (512, 512)])
def test_clean_resize_is_clean_fids(size):
    from cleanfid.resize import build_resizer

    picture = pictures(1, *size)
    expected = build_resizer("clean")(picture[0])
    got = clean_resize(tensor(picture), 299)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(got - expected).max() < 0.01  # of 255 levels; clean-fid computes its filter in double precision


@pytest.mark.parametrize("size", [(64, 64), (300, 500), (512, 512), (500, 300)])
def test_eight_bit_resize_is_pillows(size):
    picture = pictures(1, *size)
    expected = np.asarray(Image.fromarray(picture[0]).resize((299, 299), Image.BILINEAR)).astype(int)
    difference = np.abs(eight_bit_resize(tensor(picture), 299)[0].permute(1, 2, 0).numpy() * 255 - expected)
    tall = size[0] > size[1]  # Pillow's order of passes varies there
    assert difference.max() < (2.001 if tall else 1.001)
    assert tall or (difference > 0.5).mean() < 0.005
