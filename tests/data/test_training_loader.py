"""A training loader goes on within an epoch, behind the batches that were seen, without opening their images."""

import json
import shutil

import lightning as L
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from torch.utils.data import Dataset

from uniemo.callbacks import LastCheckpoint
from uniemo.data.dataset import EpochSampler
from uniemo.data.loader import TrainingLoader
from uniemo.errors import UniEmoError


class Keys(Dataset):
    """Give back the key, and write down in a file that it was asked for (workers are other processes)."""

    def __init__(self, length, log):
        self.length, self.log = length, log

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        with open(self.log, "a") as file:
            file.write(f"{key}\n")
        return key


def loader(tmp_path, workers=0, rank=None, ranks=2, batch_size=4, length=22):
    sampler = EpochSampler(length, seed=1)
    if rank is not None:
        sampler = DistributedSamplerWrapper(sampler, num_replicas=ranks, rank=rank, shuffle=False)
    (tmp_path / "asked").unlink(missing_ok=True)
    return TrainingLoader(
        Keys(length, tmp_path / "asked"),
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        persistent_workers=workers > 0,
    )


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return list(loader)


@pytest.mark.parametrize(("seen", "workers"), [(0, 0), (1, 0), (5, 0), (6, 0), (2, 2)])
def test_the_rest_of_an_epoch_and_nothing_else(tmp_path, seen, workers):
    whole = loader(tmp_path, workers)
    before = [epoch(whole, number) for number in range(3)]
    assert [len(batches) for batches in before] == [6, 6, 6]
    whole.sampler.set_epoch(1)
    batches = iter(whole)
    assert [next(batches) for _ in range(seen)] == before[1][:seen]  # workers are further on by now
    state = whole.state_dict() if seen else {"epoch": 1, "batches": 0, "batch": 4, "images": 22}
    assert state == {"epoch": 1, "batches": seen, "batch": 4, "images": 22}

    again = loader(tmp_path, workers)
    again.load_state_dict(json.loads(json.dumps(state)))
    assert len(again) == 6  # Lightning counts from the beginning of the epoch
    assert epoch(again, 1) == before[1][seen:]
    if seen < 6:
        asked = {int(key) for key in (tmp_path / "asked").read_text().split()}
        assert asked == {key for batch in before[1][seen:] for key in batch}
    assert again.state_dict()["batches"] == 6
    assert epoch(again, 2) == before[2]
    whole._iterator = again._iterator = batches = None  # ends the workers


def test_goes_on_twice_within_an_epoch(tmp_path):
    before = epoch(loader(tmp_path), 0)
    second, third = loader(tmp_path), loader(tmp_path)
    second.load_state_dict({"epoch": 0, "batches": 2, "batch": 4, "images": 22})
    batches = iter(second)
    assert [next(batches), next(batches)] == before[2:4]
    third.load_state_dict(second.state_dict())
    assert epoch(third, 0) == before[4:]


def test_another_epoch_begins_at_its_beginning(tmp_path):
    again = loader(tmp_path)
    again.load_state_dict({"epoch": 1, "batches": 6, "batch": 99, "images": 22})  # sizes may change between epochs
    assert epoch(again, 2) == epoch(loader(tmp_path), 2)


@pytest.mark.parametrize(("changed", "words"), [({"batch_size": 8}, "batch_size"), ({"length": 23}, "training images")])
def test_sizes_must_stay_within_an_epoch(tmp_path, changed, words):
    again = loader(tmp_path, **changed)
    again.load_state_dict({"epoch": 0, "batches": 2, "batch": 4, "images": 22})
    with pytest.raises(UniEmoError, match=words):
        next(iter(again))


def test_one_process_goes_on_as_two(tmp_path, monkeypatch):
    one = epoch(loader(tmp_path, length=24), 3)
    monkeypatch.setattr("uniemo.data.loader.get_world_size", lambda: 2)
    rests = []
    for rank in range(2):
        half = loader(tmp_path, rank=rank, batch_size=2, length=24)
        half.load_state_dict({"epoch": 3, "batches": 4, "batch": 4, "images": 24})
        rests.append(epoch(half, 3))
    assert [sorted(a + b) for a, b in zip(*rests, strict=True)] == [sorted(batch) for batch in one[4:]]


class Sum(L.LightningModule):
    """One weight; batches are lists of keys, None where nothing could be read."""

    def __init__(self, folder):
        super().__init__()
        self.weight, self.folder, self.seen = torch.nn.Parameter(torch.ones(())), folder, []

    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step:
            shutil.copyfile(self.folder / "last.ckpt", self.folder / f"{self.global_step}.ckpt")

    def training_step(self, batch):
        self.seen.append(batch)
        return self.weight * float(np.mean(batch))

    def validation_step(self, batch):
        self.seen.append("validation")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore")
def test_counts_batches_without_a_readable_image(tmp_path):
    order = epoch(loader(tmp_path), 0)
    broken = {*order[1], *order[4]}

    def run(ckpt_path=None):
        data, module = loader(tmp_path), Sum(tmp_path)
        data.collate_fn = lambda batch: None if broken >= {*batch} else batch
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
            callbacks=[LastCheckpoint(every_n_steps=1)], enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, data, loader(tmp_path), ckpt_path=ckpt_path)
        return module.seen

    whole = run()
    assert len(whole) == 4 + 6 + 6 + 6  # in the other epoch the broken ones have readable neighbours
    steps = [i for i, batch in enumerate(whole) if batch != "validation"]
    assert whole[:4] == [order[0], order[2], order[3], order[5]]
    for step in (1, 2, 3, 5, 7):
        assert run(tmp_path / f"{step}.ckpt") == whole[steps[step] :], step


@pytest.mark.parametrize(
    "change", [{"batches": -1}, {"batches": "x"}, {"epoch": None}, {"images": -(10**30)}, {"batch": [4]}]
)
def test_a_damaged_place_is_refused(tmp_path, change):
    one = loader(tmp_path)
    with pytest.raises(UniEmoError, match=rf"its count {next(iter(change))} is .*: it is damaged"):
        one.load_state_dict(one.state_dict() | change)
    with pytest.raises(UniEmoError, match="its count epoch is None"):
        one.load_state_dict("x")
