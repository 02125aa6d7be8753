import os
import shutil
import sys

import pytest
import torch
from trees import painted_emoset

from uniemo.data import EmoSet
from uniemo.errors import UniEmoError
from uniemo.metrics.feature_cache import cached_features, view_of


class Counted:
    """Counts the images that go through a CLIP, and stops after some."""

    def __init__(self, clip, stop=None):
        self.seen = 0
        self.stop = stop
        self.handle = clip.visual.register_forward_pre_hook(self)

    def __call__(self, module, inputs):
        if self.stop is not None and self.seen >= self.stop:
            raise KeyboardInterrupt
        self.seen += len(inputs[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


def _loader(root, split="train", **settings):
    return EmoSet(str(root), 32, **{"diffusion_size": 16, "batch_size": 5, **settings}).evaluation_loader(split)


def _plain(clip, loader, view="image"):
    """Features and labels without a cache."""
    batches = list(loader)
    features = torch.cat([clip.features(view_of(batch, view)) for batch in batches])
    return features, torch.cat([batch.emotion for batch in batches])


def _files(folder):
    return sorted(folder.glob("*/*.safetensors"))


def test_once_and_the_same(emoset_root, clip, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # a terminal, which has a bar
    plain, other = (_plain(clip, _loader(emoset_root), view) for view in ("image", "target"))
    with Counted(clip) as counted:
        found = cached_features(clip, _loader(emoset_root), ("image", "target"), tmp_path, shard=12, progress=True)
    assert counted.seen == 64  # 32 images, two views
    torch.testing.assert_close(found[0], torch.cat([plain[0], other[0]]))
    assert torch.equal(found[1], plain[1].repeat(2))
    assert not torch.allclose(found[0][:32], found[0][32:])
    assert len(_files(tmp_path)) == 6  # 12 + 12 + 8 images of each view
    assert "32/32" in capsys.readouterr().err
    with Counted(clip) as counted:
        again = cached_features(clip, _loader(emoset_root, batch_size=32), ("target",), tmp_path, shard=12)
        one = cached_features(clip, _loader(emoset_root, diffusion_size=None), ("image",), tmp_path, shard=12)
    assert counted.seen == 0  # a view is shared by whoever wants it
    assert torch.equal(again[0], found[0][32:])
    assert torch.equal(one[0], found[0][:32])
    assert torch.equal(one[1], found[1][:32])


def test_goes_on_where_it_stopped(emoset_root, clip, tmp_path):
    whole = _plain(clip, _loader(emoset_root))
    with Counted(clip, stop=20) as counted, pytest.raises(KeyboardInterrupt):
        cached_features(clip, _loader(emoset_root), folder=tmp_path, shard=8)
    assert counted.seen < 32
    kept = len(_files(tmp_path))
    assert 0 < kept < 4
    _files(tmp_path)[0].write_bytes(b"damaged")
    with Counted(clip) as counted:
        found = cached_features(clip, _loader(emoset_root), folder=tmp_path, shard=8)
    assert counted.seen == 32 - 8 * (kept - 1)
    torch.testing.assert_close(found[0], whole[0])
    assert torch.equal(found[1], whole[1])
    assert not [path for path in tmp_path.glob("*/.*")]  # nothing half written is left


def test_never_stale(tmp_path, clip):
    root = painted_emoset(tmp_path / "emoset", train=8, val=8, test=8)
    cache = tmp_path / "cache"
    first = cached_features(clip, _loader(root), folder=cache)
    loader = _loader(root)
    changed = loader.dataset.records.path(3)
    other = loader.dataset.records.path(4)
    shutil.copyfile(other, changed)
    os.utime(changed, (1, 1))
    second = cached_features(clip, _loader(root), folder=cache)
    rows = (first[0] != second[0]).any(dim=1).nonzero().flatten().tolist()
    assert rows == [3]
    with Counted(clip) as counted:
        cached_features(clip, _loader(root, limit_train=4), folder=cache)
    assert counted.seen == 4
    weight = clip.visual.proj
    before = weight.detach().clone()
    del clip.__dict__["hash"]
    try:
        weight.data.mul_(2)
        third = cached_features(clip, _loader(root), folder=cache)
    finally:
        weight.data.copy_(before)
        clip.__dict__.pop("hash", None)
    torch.testing.assert_close(third[0], 2 * second[0])


def test_images_left_out(tmp_path, clip):
    root = painted_emoset(tmp_path / "emoset", train=8, val=8, test=8)
    records = _loader(root).dataset.records
    broken = records.path(2)
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.warns(UserWarning, match="left out"):
        found = cached_features(
            clip, _loader(root, on_error="skip", check=False, batch_size=1), folder=tmp_path / "c", shard=4
        )
    assert len(found[0]) == len(found[1]) == 7
    with pytest.raises(Exception, match=broken.name):  # what was kept lacks one: it must not pass for whole
        cached_features(clip, _loader(root, check=False, batch_size=1), folder=tmp_path / "c", shard=4)


def test_refuses(emoset_root, clip, tmp_path):
    with pytest.raises(UniEmoError, match="diffusion_size"):
        cached_features(clip, _loader(emoset_root, diffusion_size=None), ("target",), tmp_path)
    before = clip.visual.proj.detach().clone()
    try:
        clip.visual.proj.data.fill_(float("nan"))
        with pytest.raises(UniEmoError, match=r"tiny-clip must be finite; those of .*jpg"):
            cached_features(clip, _loader(emoset_root), folder=tmp_path)
    finally:
        clip.visual.proj.data.copy_(before)
    assert not _files(tmp_path)
