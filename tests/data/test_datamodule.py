import numpy as np
import pytest
import torch
from trees import drawn_index

from tests.data.probe import Probe, trainer
from uniemo.data import EmoSet
from uniemo.errors import UniEmoError


def _module(root, **changes):
    return EmoSet(**{"root": str(root), "image_size": 32, "diffusion_size": 16, "batch_size": 8, **changes})


def _epoch(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def _ids(batches):
    return torch.cat([batch.sample_id for batch in batches]).tolist()


def test_batch(emoset_root):
    data = _module(emoset_root)
    batch = next(iter(data.train_dataloader()))
    assert len(batch) == 8
    assert batch.images.shape == (8, 3, 32, 32)
    assert batch.targets.shape == (8, 3, 16, 16)
    assert batch.objects.shape == (8, len(data.vocabulary.objects))
    assert batch.objects.dtype == batch.generated.dtype == torch.bool
    assert batch.emotion.dtype == batch.scene.dtype == batch.sample_id.dtype == torch.int64
    assert not batch.generated.any()
    assert len(batch.names) == 8
    moved = batch.to("meta")
    assert moved.images.device.type == moved.objects.device.type == "meta"
    assert moved.names == batch.names
    assert _module(emoset_root, diffusion_size=None).val_dataloader().dataset[0].target is None


def test_epochs_are_reproducible_and_differ(emoset_root):
    first, second, again = (
        _epoch(_module(emoset_root, seed=seed).train_dataloader(), epoch) for seed, epoch in ((0, 0), (0, 1), (0, 0))
    )
    assert sorted(_ids(first)) == list(range(32))
    assert _ids(first) == _ids(again)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert _ids(first) != _ids(second)
    assert _ids(first) != _ids(_epoch(_module(emoset_root, seed=1).train_dataloader(), 0))
    images = [torch.cat([b.images for b in epoch])[torch.tensor(_ids(epoch)).argsort()] for epoch in (first, second)]
    assert not torch.equal(*images)  # other crops too


def test_workers_give_the_same(emoset_root):
    alone = _epoch(_module(emoset_root).train_dataloader(), 3)
    helped = _epoch(_module(emoset_root, num_workers=1).train_dataloader(), 3)
    assert all(torch.equal(a.images, b.images) for a, b in zip(alone, helped, strict=True))


def test_lightning_sets_the_epoch(emoset_root, tmp_path):
    probe = Probe()
    trainer(tmp_path, max_epochs=2).fit(probe, datamodule=_module(emoset_root, batch_size=32))
    assert probe.seen == [list(np.random.default_rng((0, epoch)).permutation(32)) for epoch in (0, 1)]


def test_evaluation_loader(emoset_root):
    data = _module(emoset_root)
    loader = data.evaluation_loader("train", limit_per_emotion=2)
    batches = list(loader)
    emotion = torch.cat([batch.emotion for batch in batches])
    assert torch.bincount(emotion, minlength=8).tolist() == [2] * 8
    assert _ids(batches) == sorted(_ids(batches))
    assert _ids(batches) == _ids(list(_module(emoset_root).evaluation_loader("train", limit_per_emotion=2)))
    assert torch.equal(batches[0].images, next(iter(loader)).images)  # no augmentation
    assert _ids(list(data.evaluation_loader("train"))) == list(range(32))
    assert batches[0].masks is None
    assert next(iter(data.evaluation_loader("test"))).masks is not None


def test_limit_train_is_seeded_and_covers_evaluation(emoset_root):
    data = _module(emoset_root, limit_train=10)
    ids = _ids(data.evaluation_loader("train"))
    assert len(ids) == 10
    assert sorted(_ids(_epoch(data.train_dataloader(), 4))) == ids
    assert ids == _ids(_module(emoset_root, limit_train=10).evaluation_loader("train"))
    assert len(data.records("val")) == 16


def test_fingerprint_changes_with_content(emoset_root):
    base = _module(emoset_root).fingerprint("train")
    assert base == _module(emoset_root).fingerprint("train")
    assert base != _module(emoset_root).fingerprint("val")
    assert base != _module(emoset_root, limit_train=31).fingerprint("train")
    assert base != _module(emoset_root, diffusion_size=8).fingerprint("train")


def test_set_generated(emoset_root, tmp_path):
    data = _module(emoset_root)
    index = drawn_index(tmp_path / "drawn", data.vocabulary.emotions, per_emotion=2)
    data.set_generated(index, proportion=0.2)
    batches = _epoch(data.train_dataloader(), 0)
    generated = torch.cat([batch.generated for batch in batches])
    assert generated.sum() == 8
    assert len(set(_ids(batches))) == 40
    scene = torch.cat([batch.scene for batch in batches])
    objects = torch.cat([batch.objects for batch in batches])
    assert (scene[generated] == -1).all()
    assert not objects[generated].any()
    only = list(data.evaluation_loader("train", generated=True))
    assert sum(map(len, only)) == 16
    assert all(batch.generated.all() for batch in only)
    assert not any(batch.generated.any() for batch in data.evaluation_loader("train"))
    data.set_generated(None)
    assert len(data.train_dataset()) == 32
    with pytest.raises(UniEmoError, match=r"data\.generated"):
        data.evaluation_loader("train", generated=True)


def test_bad_generated_index_is_found_before_work(emoset_root, tmp_path):
    with pytest.raises(UniEmoError, match="does not exist"):
        _module(emoset_root, generated=str(tmp_path / "no.jsonl")).check()
    data = _module(emoset_root)
    with pytest.raises(UniEmoError, match="does not exist"):
        data.set_generated(tmp_path / "no.jsonl")
    assert data.generated is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", 0),
        ("diffusion_size", 0),
        ("batch_size", 0),
        ("num_workers", -1),
        ("seed", -1),
        ("crop_scale", (0.9, 0.5)),
        ("crop_scale", (0.0, 1.0)),
        ("proportion", 1.0),
        ("limit_train", 0),
    ],
)
def test_bad_arguments(name, value):
    with pytest.raises(UniEmoError, match=name):
        _module("anywhere", **{name: value})
