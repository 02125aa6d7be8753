import json
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from uniemo import UniEmoError
from uniemo.callbacks import AttentionMaps
from uniemo.callbacks.attention_maps import coverage, overlay
from uniemo.data.batch import EmotionBatch
from uniemo.data.transforms import denormalise
from uniemo.vocabulary import Vocabulary


def test_coverage_by_hand():
    masks = torch.zeros(3, 1, 4, 4)
    masks[0, :, :2, :2] = 1  # the upper left patch of a 2 x 2 grid
    masks[1, :, :, :1] = 1  # half of both left patches
    masks[2, :, :2, :2] = 0.5  # a grey mask weighs: as many people looked there as not
    masks[2, :, 2:, 2:] = 1
    attention = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1], [0.6, 0.1, 0.1, 0.2]]).view(3, 2, 2)
    assert coverage(attention, masks).tolist() == pytest.approx([0.7, 0.5 * 0.4 + 0.5 * 0.2, 0.5 * 0.6 + 0.2])


class Looks(L.LightningModule):
    """A module whose object query sees the upper left quarter only."""

    def __init__(self):
        super().__init__()
        self.logged = {}

    def attention(self, images):
        maps = torch.zeros(len(images), 2, 2)
        maps[:, 0, 0] = 1
        return {"object": maps}

    def log(self, name, value, **_):
        self.logged[name] = value.item()


def a_trainer_on(folder, emotions):
    """Return a trainer that tests on data with these emotions."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", default_root_dir=folder, **quiet)
    trainer.datamodule = SimpleNamespace(vocabulary=Vocabulary(emotions))
    trainer.testing = True
    return trainer


def test_images_without_a_mask_take_no_part(tmp_path):
    masks = torch.zeros(3, 1, 4, 4)
    masks[0, :, :2, :2] = 1
    masks[2] = 0.5
    zero = torch.zeros(3, dtype=torch.int64)
    images, objects, ids = torch.zeros(3, 3, 4, 4), torch.zeros(3, 0), torch.arange(3)
    batch = EmotionBatch(images, None, zero, zero, objects, zero > 0, ids, ["a"] * 3, masks)
    maps, module, trainer = AttentionMaps(), Looks(), a_trainer_on(tmp_path, ("awe",))
    maps.on_test_epoch_start(trainer, module)
    maps.on_test_batch_end(trainer, module, None, batch, 0)
    maps.on_test_batch_end(trainer, module, None, batch, 1)  # repeats count once
    maps.on_test_epoch_end(trainer, module)
    assert module.logged["test/coverage/object"] == pytest.approx((1 + 0.5) / 2)
    assert module.logged["test/coverage/area"] == pytest.approx((0.25 + 0.5) / 2)


def test_single_images_of_each_emotion(tmp_path):
    colours = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    images = colours[:, :, None, None].expand(-1, -1, 4, 4)
    emotion, none = torch.tensor([1, 1, 1, 0, 1]), torch.zeros(5, dtype=torch.bool)
    names = [f"{row}.jpg" for row in range(5)]
    batch = EmotionBatch(images, None, emotion, emotion, torch.zeros(5, 0), none, torch.arange(5), names)
    maps, trainer = AttentionMaps(images=4), a_trainer_on(tmp_path, ("awe", "fear"))
    maps.on_test_epoch_start(trainer, Looks())
    maps.on_test_batch_end(trainer, Looks(), None, batch, 0)
    maps.on_test_epoch_end(trainer, Looks())
    folder = tmp_path / "images" / "test_attention"
    entries = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    assert [(entry["emotion"], entry["name"]) for entry in entries] == [
        ("fear", "0.jpg"),
        ("fear", "1.jpg"),
        ("awe", "3.jpg"),
    ]  # at most two of each
    for entry, row in zip(entries, (0, 1, 3), strict=True):
        shown = np.asarray(Image.open(folder / entry["image"]))
        wanted = denormalise(images[row : row + 1])[0, :, 0, 0] * 255
        assert shown[2, 2].tolist() == pytest.approx(wanted.clamp(0, 255).tolist(), abs=0.51)
        looked_at = np.asarray(Image.open(folder / entry["object"])).sum(axis=2)
        assert looked_at[0, 0] > looked_at[3, 3]  # its query sees the upper left quarter


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
