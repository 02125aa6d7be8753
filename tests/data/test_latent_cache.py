import json
import multiprocessing
import shutil
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from trees import drawn_index, painted_emoset

from uniemo.data import EmoSet, EmotionDataset, PairedTransform, TwitterI, latent_cache
from uniemo.data.images import ImageCache, UnreadableImageError
from uniemo.data.latent_cache import LatentEncoder, LatentsGoneError
from uniemo.errors import UniEmoError

SHAPE = (3, 4, 4)  # of 16 px images


class Vae:
    """Stands for a VAE: block means as mean, a smooth function of them as standard deviation."""

    def __init__(self, **changes):
        self.images = []
        self.encoder = LatentEncoder("vae", SHAPE, self.posterior, **changes)

    def posterior(self, images):
        self.images.append(images)
        mean = F.avg_pool2d(images, 4)
        return torch.stack([mean, 0.1 + mean.square() / 4], dim=1)

    @property
    def count(self):
        """How many images were encoded; each goes with its mirror image."""
        return sum(map(len, self.images)) // 2


@pytest.fixture
def tree(emoset_root, tmp_path):
    """A copy to change."""
    return shutil.copytree(emoset_root, tmp_path / "tree")


def module(root, cached=True, vae=None, **changes):
    data = EmoSet(
        **{"root": str(root), "image_size": 32, "diffusion_size": 16, "batch_size": 8, "cached_latents": cached}
        | ({} if cached else {"crop": "central"})
        | changes
    )
    if cached:
        data.set_latent_encoder((vae or Vae()).encoder)
    return data


def epoch_of(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def files(tmp_path):
    return sorted((tmp_path / "cache/latents").rglob("*.npz"))


# What the VAE sees.


def photo(width=400, height=300):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + y / 23), np.cos(x / 17 - y / 7), np.sin(x * y / 5000)]
    return Image.fromarray((np.stack(waves, axis=-1) * 100 + 128).astype(np.uint8))


@pytest.mark.parametrize("name", ["large.jpg", "large.png", "small.png", "turned.jpg"])
def test_each_view_alone_has_the_pixels_it_has_beside_the_other(tmp_path, name):
    path = tmp_path / name
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(*((100, 80) if "small" in name else (400, 300))).save(path, **({"exif": exif} if "turned" in name else {}))
    cache = ImageCache(0)
    transform = PairedTransform(24, 64, train=True, crop="central")
    flips = set()
    for seed in range(6):
        view, target, _ = transform(cache.open(path), np.random.default_rng(seed))
        picture = cache.open(path)
        box, flip = transform.geometry(picture.width, picture.height, np.random.default_rng(seed))
        side = min(picture.width, picture.height)
        left, upper = (picture.width - side) / 2, (picture.height - side) / 2
        assert box == (left, upper, left + side, upper + side)
        assert torch.equal(transform.view(picture, box, flip), view)
        plain = transform.target(cache.open(path), box, flip=False)
        assert torch.equal(plain.flip(-1) if flip else plain, target)
        flips.add(flip)
    assert flips == {False, True}


# Samples.


def test_samples_hold_the_posterior_of_the_view_that_they_would_show(emoset_root):
    vae = Vae()
    data, plain = module(emoset_root, vae=vae), module(emoset_root, cached=False)
    for epoch in range(2):
        for batch, shown in zip(epoch_of(data, epoch), epoch_of(plain, epoch), strict=True):
            assert torch.equal(batch.images, shown.images)
            assert batch.sample_id.tolist() == shown.sample_id.tolist()
            assert batch.targets is None
            assert batch.latents.dtype == torch.float32
            assert batch.latents.shape == (len(batch), 2, *SHAPE)
            torch.testing.assert_close(batch.latents, vae.posterior(shown.targets), rtol=1e-3, atol=1e-4)
            mirrored = vae.posterior(shown.targets.flip(-1))
            assert (batch.latents - mirrored).abs().amax(dim=(1, 2, 3, 4)).min() > 0.01  # the flip is the right one
    moved = batch.to("meta")
    assert moved.latents.device.type == "meta"


def test_evaluation_is_as_before(emoset_root):
    data = module(emoset_root)
    epoch_of(data)
    for loader in (data.val_dataloader(), data.evaluation_loader("train")):
        batch = next(iter(loader))
        assert batch.latents is None
        assert batch.targets.shape[1:] == (3, 16, 16)


# What is on disk.


def test_files_and_what_is_said(emoset_root, tmp_path, capsys):
    vae = Vae()
    epoch_of(module(emoset_root, vae=vae))
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "cached latents of 32 images" in said
    assert "32 to encode, 0.000122 GiB" in said  # 32 blocks of 4096 bytes
    assert "central square and random flip" in said
    found = files(tmp_path)
    assert len(found) == 32
    assert vae.count == 32
    assert {path.parent.parent.name for path in found} == {"vae-central-16-32-v2"}
    assert all(path.stem.startswith(path.parent.name) for path in found)
    array = np.load(found[0])["posteriors"]
    assert array.dtype == np.float16
    assert array.shape == (2, 2, *SHAPE)
    # each image once, whatever the order
    epoch_of(again := module(emoset_root, vae=vae, seed=5))
    epoch_of(again, 1)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "all there" in said
    assert vae.count == 32


def test_a_second_start_reads_no_image(emoset_root, monkeypatch):
    epoch_of(module(emoset_root))
    monkeypatch.setattr(latent_cache, "_hash", lambda path: pytest.fail(f"read {path}"))
    epoch_of(module(emoset_root))


def test_a_changed_image_is_noticed(tree, tmp_path):
    vae = Vae()
    epoch_of(module(tree, vae=vae))
    name = json.loads((tree / "train.json").read_text())[3][1]
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tree / name)
    data = module(tree, vae=vae)
    batches = epoch_of(data)
    assert vae.count == 33
    assert len(files(tmp_path)) == 33
    (row,) = [(batch, i) for batch in batches for i, file in enumerate(batch.names) if file == name]
    red = row[0].latents[row[1]][0, 0]
    torch.testing.assert_close(red, torch.full_like(red, 200 / 127.5 - 1), atol=0.03, rtol=0)  # a JPEG's red


def test_copies_of_an_image_are_encoded_once(tree):
    names = [entry[1] for entry in json.loads((tree / "train.json").read_text())]
    same = [name for name in names if name.split("/")[1] == names[0].split("/")[1]]
    shutil.copyfile(tree / same[0], tree / same[1])
    vae = Vae()
    with pytest.warns(UserWarning, match="copies of one another"):
        batches = epoch_of(module(tree, vae=vae))
    count = sum(map(len, batches))
    assert vae.count == len({(tree / name).read_bytes() for batch in batches for name in batch.names})
    assert vae.count in (count, count - 1)


def test_an_interrupted_fill_goes_on(emoset_root, tmp_path, monkeypatch):
    class Stops(Vae):
        def posterior(self, images):
            if len(self.images) == 2:
                raise KeyboardInterrupt
            return super().posterior(images)

    stopped = Stops()
    monkeypatch.setattr(latent_cache, "_BATCH", 10)  # five images and their mirror images
    with pytest.raises(KeyboardInterrupt):
        epoch_of(module(emoset_root, vae=stopped))
    assert len(files(tmp_path)) == stopped.count == 10
    vae = Vae()
    epoch_of(module(emoset_root, vae=vae))
    assert vae.count == 22


@pytest.mark.parametrize("size", [0, 200])
def test_a_cut_file_is_made_anew(emoset_root, tmp_path, size):
    epoch_of(module(emoset_root))
    path = files(tmp_path)[7]
    whole = path.read_bytes()
    array = np.load(path)["posteriors"]
    assert size < len(whole)
    path.write_bytes(whole[:size])
    vae = Vae()
    epoch_of(module(emoset_root, vae=vae))
    assert vae.count == 1
    assert np.array_equal(np.load(path)["posteriors"], array)


@pytest.mark.parametrize("damage", ["zeros", "one bit"])
@pytest.mark.parametrize("workers", [0, 1])
def test_damage_during_a_run_is_noticed_and_healed(emoset_root, tmp_path, workers, damage):
    data = module(emoset_root, num_workers=workers)
    loader = data.train_dataloader()
    for path in files(tmp_path):
        content = bytearray(path.read_bytes())
        content[-300] ^= 1  # a pixel: the size stays, the checksum does not fit
        path.write_bytes(content if damage == "one bit" else bytes(len(content)))
    with pytest.raises(LatentsGoneError, match="start or resume again") as error:
        list(loader)
    assert "\n" not in str(error.value)
    assert str(error.value).count("latents must stay") == 1
    gone = 32 - len(files(tmp_path))
    assert gone >= 1
    vae = Vae()
    data = module(emoset_root, vae=vae)
    data.train_dataloader()
    assert gone <= vae.count < 32  # a broken file was removed when it was met; a worker may still have met some


# Several processes.


def fill(root, cache, results):
    vae = Vae()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIEMO_CACHE", cache)
        batches = epoch_of(module(root, vae=vae))
    results.put((vae.count, {int(i): row.numpy() for b in batches for i, row in zip(b.sample_id, b.latents)}))  # noqa: B905


def test_two_runs_fill_one_cache_at_once(emoset_root, tmp_path):
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    runs = [fork.Process(target=fill, args=(emoset_root, str(tmp_path / "cache"), results)) for _ in range(2)]
    for run in runs:
        run.start()
    (first, one), (second, two) = results.get(timeout=120), results.get(timeout=120)
    for run in runs:
        run.join()
        assert run.exitcode == 0
    assert 32 <= first + second <= 64
    assert len(files(tmp_path)) == 32
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert not list((tmp_path / "cache/latents").rglob(".*"))  # nothing half-written


def test_ranks_share_the_work(emoset_root, tmp_path):
    wall = threading.Barrier(2, timeout=60)
    vaes = [Vae(ranks=((rank, 2), (rank, 2)), barrier=wall.wait) for rank in range(2)]
    datas = [module(emoset_root, vae=vae) for vae in vaes]
    for data in datas:
        data.records("train")  # reading labels is none of this test's business
    threads = [threading.Thread(target=data.train_dataloader) for data in datas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [vae.count for vae in vaes] == [16, 16]
    assert len(files(tmp_path)) == 32


def test_a_machine_fills_what_others_have_kept_to_themselves(emoset_root):
    barriers = []
    vae = Vae(ranks=((1, 3), (0, 1)), barrier=lambda: barriers.append(vae.count))
    epoch_of(module(emoset_root, vae=vae))
    assert barriers == [0, 11, 32]


# Generated images.


def test_generated_images_join(emoset_root, tmp_path, capsys):
    vae = Vae()
    data = module(emoset_root, vae=vae)
    epoch_of(data)
    index = drawn_index(tmp_path / "drawn", data.vocabulary.emotions, per_emotion=3)
    data.set_generated(index, proportion=0.2)
    batches = epoch_of(data, 1)
    assert vae.count == 32 + 8  # of 24 images a fifth of the mixed set is used
    assert "cached latents of 40 images, central square and random flip: 8 to encode" in capsys.readouterr().out
    generated = torch.cat([batch.generated for batch in batches])
    latents = torch.cat([batch.latents for batch in batches])
    assert int(generated.sum()) == 8
    names = [name for batch in batches for name in batch.names]
    for row in generated.nonzero().flatten().tolist():
        with Image.open(tmp_path / "drawn" / names[row]) as image:
            colour = torch.tensor(image.getpixel((0, 0))) / 127.5 - 1
        torch.testing.assert_close(latents[row, 0].mean(dim=(1, 2)), colour, atol=2e-3, rtol=0)
    # drawn again under the same names
    for path in (tmp_path / "drawn/images").iterdir():
        Image.new("RGB", (32, 32), (1, 2, len(path.name))).save(path)
    data.set_generated(index)
    epoch_of(data, 2)
    assert vae.count > 40
    data.set_generated(None)
    assert sum(map(len, epoch_of(data, 3))) == 32


# What can go wrong.


def broken(tree):
    """Damage the pixels of a training image behind its whole header, and return its name."""
    name = json.loads((tree / "train.json").read_text())[5][1]
    path = tree / name
    photo(200, 200).save(path, "JPEG", quality=95)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return name


def test_unreadable_images(tree):
    name = broken(tree)
    with pytest.raises(UnreadableImageError, match=name):
        epoch_of(module(tree, check=False))
    vae = Vae()
    data = module(tree, vae=vae, check=False, on_error="skip")
    missing = next(other for other in data.records("train").names() if other != name)
    (tree / missing).unlink()
    with pytest.warns(UserWarning, match="left out"):
        batches = epoch_of(data)
    assert vae.count == 30
    assert sum(map(len, batches)) == 30
    assert {file for file, _ in data.skipped.files()} == {str(tree / name), str(tree / missing)}


def test_no_room(emoset_root, monkeypatch, tmp_path):
    monkeypatch.setattr(latent_cache.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(UniEmoError, match=r"needs 0\.000122 GiB in .*; 9\.31e-09 GiB are free: set UNIEMO_CACHE"):
        epoch_of(module(emoset_root))
    assert not files(tmp_path)


def test_latents_must_be_finite(emoset_root, tmp_path):
    class Overflows(Vae):
        def posterior(self, images):
            return super().posterior(images) * 1e6

    with pytest.raises(UniEmoError, match="finite float16"):
        epoch_of(module(emoset_root, vae=Overflows()))
    assert not files(tmp_path)


def test_arguments(emoset_root):
    with pytest.raises(UniEmoError, match=r"data\.diffusion_size must be set with data\.cached_latents"):
        EmoSet(str(emoset_root), diffusion_size=None, cached_latents=True)
    with pytest.raises(UniEmoError, match=r"data\.crop must be random or central"):
        EmoSet(str(emoset_root), crop="left")
    with pytest.raises(UniEmoError, match="needs a module with a VAE"):
        EmoSet(str(emoset_root), cached_latents=True).train_dataloader()
    with pytest.raises(UniEmoError, match="diffusion_size must be set"):
        PairedTransform(32, train=True).target(photo(), (0, 0, 9, 9), flip=False)
    twitter = TwitterI("nowhere", cached_latents=True, crop="random")
    assert twitter.cached_latents
    assert twitter._train_transform.crop == "central"


def test_only_what_is_used_is_encoded(tmp_path):
    root = painted_emoset(tmp_path / "painted", 12, 8, 8)
    vae = Vae()
    batches = epoch_of(module(root, vae=vae, limit_train=5))
    assert sum(map(len, batches)) == vae.count == 5
    assert isinstance(batches, list)
    assert EmotionDataset(module(root).records("train"), PairedTransform(8), on_error="raise").latents is None
