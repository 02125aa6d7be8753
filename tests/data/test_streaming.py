"""Shards of parquet and WebDataset: every image once, shared out, resumed, and what damaged or hostile ones end in."""

import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from malicious import Malicious
from PIL import Image
from pyarrow import parquet
from trees import painted_tree

from tests.data.probe import Probe, trainer
from tests.distributed.crew import enough_cores, on_ranks
from uniemo.callbacks import LastCheckpoint
from uniemo.data import Streaming
from uniemo.data.shards import list_shards
from uniemo.data.stream import shuffled
from uniemo.errors import UniEmoError

KINDS = ("parquet", "webdataset")
TRAIN = 76  # of 100 images


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return {kind: painted_tree(f"emoset-{kind}", folder / kind, 100, 0, 16, (), 0) for kind in KINDS}


def streaming(root, **options):
    sizes = {"image_size": 16, "diffusion_size": None, "batch_size": 8, "eval_batch_size": 8, "shuffle_buffer": 10}
    return Streaming(str(root), **sizes | options)


def epoch(loader, number=0):
    loader.sampler.set_epoch(number)
    return [batch.sample_id.tolist() for batch in loader if batch is not None]


def flat(batches):
    return [one for batch in batches for one in batch]


# Every image once.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_holds_every_image_once_in_an_order_of_its_own(painted, kind, workers):
    loader = streaming(painted[kind], num_workers=workers).train_dataloader()
    first, second = epoch(loader), epoch(loader, 1)
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(TRAIN))
    assert len(first) == len(second) == len(loader)
    assert first != second
    assert first == epoch(streaming(painted[kind], num_workers=workers).train_dataloader())
    loader._iterator = None  # ends the workers


def annotations(root, kind, split):
    """Emotion, scene and objects of each image as other readers find them."""
    if kind == "parquet":
        files = sorted((root / "data").glob(f"{split}-*"))
        return [row for file in files for row in parquet.read_table(file).to_pylist()]
    rows = []
    for file in sorted((root / "data").glob(f"{split}-*")):
        with tarfile.open(file) as archive:
            rows += [json.load(archive.extractfile(one)) for one in archive if one.name.endswith(".json")]
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_pixels(painted, kind):
    data = streaming(painted[kind])
    known = annotations(painted[kind], kind, "train")
    names = data.vocabulary
    for batch in data.train_dataloader():
        assert batch.images.shape[1:] == (3, 16, 16)
        for place, number in enumerate(batch.sample_id.tolist()):
            row = known[number]
            scene = int(batch.scene[place])
            assert names.emotions[batch.emotion[place]] == row["emotion"]
            assert (names.scenes[scene] if scene >= 0 else "") == (row.get("scene") or "").strip()
            assert {names.objects[at] for at in batch.objects[place].nonzero()} == set(row.get("object") or ())
    test = [batch for batch in data.test_dataloader()]
    assert flat([batch.names for batch in test]) == data.names("test", flat(b.sample_id.tolist() for b in test))
    assert test[0].names[0] == f"test-00000-of-00001.{'parquet' if kind == 'parquet' else 'tar'}#0"
    assert flat(batch.sample_id.tolist() for batch in test) == list(range(16))  # in order


def test_pixels_are_those_of_the_files(painted):
    """The same paintings from shards and from the copies, which are read as any tree is."""
    data = streaming(painted["parquet"], crop="central")
    copies = data.dataset("val")
    batch = next(iter(data.val_dataloader()))
    for place, number in enumerate(batch.sample_id.tolist()):
        assert (batch.images[place] == copies[number].image).all()
        assert batch.emotion[place] == copies[number].emotion
        assert batch.scene[place] == copies[number].scene
        assert (batch.objects[place] == copies[number].objects).all()


def test_blocks_of_the_buffer():
    rows = list(shuffled(iter(range(25)), 10, (0,)))
    assert [sorted(rows[start : start + 10]) for start in (0, 10, 20)] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 25)),
    ]
    assert rows[:10] != list(range(10))
    assert list(shuffled(iter(range(10, 25)), 10, (0,), block=1)) == rows[10:]
    held = most = 0

    def counted():
        nonlocal held, most
        for row in range(50):
            held += 1
            most = max(most, held)
            yield row

    for _ in shuffled(counted(), 10, (0,)):
        held -= 1
    assert most == 11  # the one on its way out among them


# Ranks.


def shares(data, split, ranks, monkeypatch):
    """Batches of ids of each rank."""
    found = []
    for rank in range(ranks):
        monkeypatch.setattr("uniemo.data.stream.get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("uniemo.data.stream.get_world_size", lambda: ranks)
        found.append(epoch(data.train_dataloader() if split == "train" else data.val_dataloader()))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_see_disjoint_images_in_equally_many_batches(painted, kind, ranks, monkeypatch):
    data = streaming(painted[kind], batch_size=5, eval_batch_size=1)
    training = shares(data, "train", ranks, monkeypatch)
    assert len({len(batches) for batches in training}) == 1
    seen = flat(flat(training))
    assert len(seen) == len(set(seen))
    assert TRAIN - len(seen) < ranks  # what would make a rank take a batch more
    validation = shares(data, "val", ranks, monkeypatch)  # of 8 images
    assert len({len(batches) for batches in validation}) == 1
    assert set(flat(flat(validation))) == set(range(8))
    assert len(flat(flat(validation))) - 8 < ranks  # those repeated in the last batch count once


@pytest.mark.skipif(not enough_cores, reason="two processes need two cores")
def test_two_processes(painted):
    def work(rank):
        data = streaming(painted["webdataset"], num_workers=1)
        return epoch(data.train_dataloader()), flat(epoch(data.test_dataloader()))

    (first, test_first), (second, test_second) = on_ranks(work)
    assert len(first) == len(second) == 5
    assert sorted(flat(first) + flat(second)) == list(range(TRAIN))
    assert sorted(test_first + test_second) == list(range(16))


def test_fewer_images_than_processes(painted, monkeypatch):
    with pytest.raises(UniEmoError, match="must hold an image for each of 9 processes; shards hold 8"):
        shares(streaming(painted["parquet"]), "val", 9, monkeypatch)


# Going on within an epoch.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("seen", "workers"), [(1, 0), (4, 0), (9, 0), (3, 2)])
def test_the_rest_of_an_epoch(painted, kind, seen, workers):
    whole = epoch(streaming(painted[kind], num_workers=workers).train_dataloader(), 3)
    loader = streaming(painted[kind], num_workers=workers).train_dataloader()
    loader.sampler.set_epoch(3)
    batches = iter(loader)
    for _ in range(seen):
        next(batches)
    state = json.loads(json.dumps(loader.state_dict()))
    again = streaming(painted[kind], num_workers=workers).train_dataloader()
    again.load_state_dict(state)
    assert epoch(again, 3) == whole[seen:]
    loader._iterator = batches = None  # ends the workers


def test_only_the_shard_where_it_stopped_is_read_again(painted, monkeypatch):
    asked = []
    import uniemo.data.stream as module

    read = module.read_rows
    monkeypatch.setattr(
        module, "read_rows", lambda shard, *where: asked.append((shard.name, where[0])) or read(shard, *where)
    )
    loader = streaming(painted["parquet"]).train_dataloader()
    loader.load_state_dict({**loader.state_dict(), "batches": 6})
    epoch(loader)
    (one,) = asked
    assert one[1] == 40 - 38  # 48 rows were seen; the buffer's block began at row 40, the second shard at row 38


@pytest.mark.parametrize(
    ("changed", "words"), [({"batch_size": 4}, "batch_size"), ({"shuffle_buffer": 9}, "data.shuffle_buffer")]
)
def test_what_decides_the_order_must_stay(painted, changed, words):
    loader = streaming(painted["parquet"]).train_dataloader()
    again = streaming(painted["parquet"], **changed).train_dataloader()
    again.load_state_dict({**loader.state_dict(), "batches": 2})
    with pytest.raises(UniEmoError, match=words):
        epoch(again)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_within_an_epoch(painted, kind, tmp_path):
    def run(steps=-1, ckpt=None):
        module = Probe()
        callbacks = [LastCheckpoint(every_n_steps=1)]
        fitting = trainer(tmp_path, max_epochs=2, max_steps=steps, callbacks=callbacks, enable_checkpointing=True)
        fitting.fit(module, datamodule=streaming(painted[kind]), ckpt_path=ckpt)
        return module.seen

    whole = run()
    assert len(whole) == 20
    assert run(13) == whole[:13]
    assert run(ckpt=tmp_path / "last.ckpt") == whole[13:]


def test_generated_images_are_spread_over_an_epoch(painted, tmp_path, monkeypatch):
    lines = []
    for number in range(30):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
        lines.append(json.dumps({"file": f"{number}.jpg", "emotion": ("awe", "fear")[number % 2]}))
    (tmp_path / "index.jsonl").write_text("\n".join(lines))
    data = streaming(painted["parquet"], generated=str(tmp_path / "index.jsonl"), proportion=0.2)
    loader = data.train_dataloader()
    batches = epoch(loader)
    assert sorted(flat(batches))[:TRAIN] == list(range(TRAIN))
    assert len(flat(batches)) == len(set(flat(batches))) == TRAIN + 19  # 0.2 / 0.8 of 76
    assert {len(batch) for batch in batches[:-1]} <= {7, 8, 9}
    assert {len([one for one in batch if one >= TRAIN]) for batch in batches} <= {1, 2}
    again = data.train_dataloader()
    again.load_state_dict({**loader.state_dict(), "batches": 5})
    assert epoch(again) == batches[5:]
    two = flat(flat(shares(data, "train", 2, monkeypatch)))
    assert sorted(two) == sorted(set(two))
    assert len([one for one in two if one >= TRAIN]) == 19


# What they are made of.


def jpeg(shade=0, size=16):
    out = io.BytesIO()
    Image.new("RGB", (size, size), (shade, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.type, entry.linkname = content
                archive.addfile(entry)


def rows_of(count, label=lambda number: ("awe", "fear")[number % 2]):
    return [(f"{number:03d}", jpeg(number), label(number)) for number in range(count)]


def tar_tree(root, rows=None, extra=()):
    for split in ("train", "val"):
        files = []
        for stem, data, label in rows or rows_of(6):
            files += [(f"{stem}.jpg", data), (f"{stem}.json", json.dumps({"emotion": label}).encode())]
        write_tar(root / split / "000.tar", [*files, *extra])
    return root


def parquet_tree(root, rows=None, label="emotion", **options):
    for split in ("train", "val"):
        table = [{"image": {"bytes": data, "path": None}, label: name} for _, data, name in rows or rows_of(6)]
        (root / split).mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(table), root / split / "000.parquet", **options)
    return root


TREES = {"tar": tar_tree, "parquet": parquet_tree}


def refused(root, **options):
    """Return the one line that a run over a tree ends with."""

    def run():
        data = streaming(root, **options)
        data.check(("train", "val"))
        epoch(data.train_dataloader())

    with pytest.raises(UniEmoError) as caught:
        run()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_class_numbers_and_texts(tmp_path):
    files = [
        (f"{number}.{suffix}", data)
        for number in range(6)
        for suffix, data in (("png", jpeg()), ("cls", b"%d" % (number % 2)))
    ]
    for split in ("train", "val"):
        write_tar(tmp_path / split / "0.tar", [("._0.png", b"x"), ("__MACOSX", b"x"), *files])
    data = streaming(tmp_path, emotions=["Fear", "awe"])
    assert data.vocabulary.emotions == ("fear", "awe")
    batch = next(iter(data.val_dataloader()))
    assert batch.emotion.tolist() == [0, 1] * 3
    assert streaming(tmp_path).vocabulary.emotions == ("0", "1")


def test_names_that_parquet_declares(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as Picture

    features = Features({"picture": Picture(), "mood": ClassLabel(names=["Fear", "awe"]), "place": Value("string")})
    rows = [{"picture": {"bytes": jpeg(), "path": None}, "mood": n % 2, "place": "beach"} for n in range(6)]
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Dataset.from_list(rows, features=features).to_parquet(tmp_path / split / "0.parquet")
    data = streaming(tmp_path, image_column="picture", label_column="mood", scene_column="place")
    assert data.vocabulary.emotions == ("fear", "awe")
    assert data.vocabulary.scenes == ("beach",)
    assert next(iter(data.val_dataloader())).emotion.tolist() == [0, 1] * 3


def test_other_places_for_validation(painted, tmp_path):
    shutil.copytree(painted["parquet"] / "data", tmp_path / "a")
    (tmp_path / "a" / "test-00000-of-00001.parquet").rename(tmp_path / "b.parquet")
    data = streaming(tmp_path / "a" / "train-*", val_shards=str(tmp_path / "b.parquet"))
    assert len(data.val_dataloader().dataset) == 16
    with pytest.raises(UniEmoError, match=r"shards of test with images; .* or give --data.test_shards"):
        data.test_dataloader()


@pytest.mark.parametrize("kind", KINDS)
def test_images_at_hand(painted, kind):
    data = streaming(painted[kind], images_at_hand=20)
    records = data.records("train")
    assert len(records) == 20
    stems = {Path(name).stem.rpartition("_")[2] for name in records.names()}
    assert len(stems) == 20
    loader = data.evaluation_loader("train", 1)
    assert sorted(flat(batch.emotion.tolist() for batch in loader)) == sorted(set(records.emotion.tolist()))
    assert "at most 20 images of a split (data.images_at_hand)" in data.describe()
    other = streaming(painted[kind], images_at_hand=20, seed=1).records("train")
    assert data.fingerprint("train") == streaming(painted[kind], images_at_hand=20).fingerprint("train")
    assert other.root != records.root


# Damaged and hostile.


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.filterwarnings("ignore:left out")
def test_a_broken_picture_in_the_middle(tmp_path, kind):
    rows = rows_of(200)
    rows[150] = ("150", jpeg(size=64)[:500], "awe")
    root = TREES[kind](tmp_path / "tree", rows)
    shard = root / "train" / f"000.{kind}"
    line = refused(root)
    assert f"images must be readable; row 150 of {shard} is not (" in line
    assert line.endswith("mend the shard, or leave such images out with --data.on_error skip")
    data = streaming(root, on_error="skip")
    loader = data.train_dataloader()
    assert sorted(flat(epoch(loader))) == [number for number in range(200) if number != 150]
    assert len(flat(epoch(loader, 1))) == 199
    assert [file for file, _ in data.skipped.files()] == [f"{shard}#150"]
    assert data.unreadable("train")[150][0] == f"train/000.{kind}#150"
    assert len(data.records("train")) == 199


@pytest.mark.parametrize("kind", TREES)
def test_a_label_that_nobody_has_named(tmp_path, kind):
    root = TREES[kind](
        tmp_path / "tree", rows_of(8, lambda number: "joy" if number == 7 else ("awe", "fear")[number % 2])
    )
    line = refused(root, emotions=["awe", "fear"])
    assert f"labels must be awe, fear; row 7 of {root}/train/000.{kind} has 'joy'" in line


def test_columns_that_are_missing(tmp_path):
    line = refused(parquet_tree(tmp_path / "a", label="mood"))
    assert (
        "/a/train/000.parquet (it has columns image, mood, but not emotion or label or cls, see --data.label_column)"
        in line
    )
    line = refused(tar_tree(tmp_path / "b"), label_column="mood")
    assert f"row 0 of {tmp_path}/b/train/000.tar has columns emotion, jpg, image and lacks one" in line
    files = [{"image": {"bytes": None, "path": "/etc/passwd"}, "emotion": "awe"}]
    root = parquet_tree(tmp_path / "c")
    parquet.write_table(pa.Table.from_pylist(files), root / "train" / "000.parquet")
    assert "must lie in their shards; row 0 of" in refused(root)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("../../up.jpg", jpeg()), "row 6 of .*train/000.tar is not .*up.jpg leads out of the shard"),
        (("/tmp/up.jpg", jpeg()), "row 6 of .*up.jpg leads out of the shard"),
        (("6.jpg", (tarfile.SYMTYPE, "/etc/passwd")), "row 6 of .*6.jpg is no file but a link or a device"),
        (("6.jpg", (tarfile.LNKTYPE, "000.jpg")), "row 6 of .*6.jpg is no file but a link or a device"),
        (("6.jpg", (tarfile.FIFOTYPE, "")), "row 6 of .*6.jpg is no file but a link or a device"),
        (("6.json", b"[" * 10_000), "row 6 of .*is not"),
        (("6.json", b"{}"), "row 6 of .* lacks one"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:left out")
def test_tars_of_strangers(tmp_path, entry, words):
    root = tar_tree(tmp_path / "tree", extra=[entry])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UniEmoError, match=words):
        epoch(streaming(root, emotions=["awe", "fear"]).train_dataloader())
    assert sorted(flat(epoch(streaming(root, on_error="skip").train_dataloader()))) == list(range(6))
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == before


@pytest.mark.parametrize("suffix", ["pyd", "pickle", "pkl", "pth", "pt", "npy", "npz", "mp"])
def test_nothing_is_unpickled(tmp_path, suffix):
    ran = tmp_path / "ran"
    root = tar_tree(tmp_path / "tree", extra=[(f"005.{suffix}", pickle.dumps(Malicious(ran)))])
    assert sorted(flat(epoch(streaming(root).train_dataloader()))) == list(range(6))
    assert not ran.exists()


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def break_header(path):
    with tarfile.open(path) as archive:
        place = archive.getmembers()[6].offset
    flip(path, place + 148)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)


@pytest.mark.filterwarnings("ignore:left out", "ignore:Streaming")
@pytest.mark.parametrize(
    ("kind", "damage", "words"),
    [
        ("tar", lambda path: cut(path, 5000), "unexpected end of data"),
        ("tar", break_header, "damaged header at byte 7,680"),
        ("tar", lambda path: cut(path, 0), "empty file"),
        ("tar", lambda path: path.write_bytes(b"x" * 2000), "invalid header"),
        ("parquet", lambda path: cut(path, 3000), "magic bytes|[Pp]arquet"),
        ("parquet", lambda path: cut(path, 0), "[Pp]arquet"),
    ],
)
def test_shards_that_are_damaged(tmp_path, kind, damage, words):
    root = TREES[kind](tmp_path / "tree", rows_of(12))
    shutil.copy(root / "train" / f"000.{kind}", root / "train" / f"001.{kind}")
    damage(root / "train" / f"001.{kind}")
    line = refused(root)
    assert f"shards must be readable; 1 of 2 are not, first {root}/train/001.{kind} (" in line
    with pytest.raises(UniEmoError, match=words):
        streaming(root).check()
    data = streaming(root, on_error="skip")
    with pytest.warns(UserWarning, match="1 shards skipped, first .*001"):
        data.check(("train",))
    assert sorted(flat(epoch(data.train_dataloader()))) == list(range(12))


@pytest.mark.filterwarnings("ignore:left out")
def test_a_damaged_row_group_costs_its_rows(tmp_path):
    root = parquet_tree(tmp_path / "tree", rows_of(40), row_group_size=20, write_page_checksum=True)
    shard = root / "train" / "000.parquet"
    pictures = parquet.read_metadata(shard).row_group(1).column(0)
    flip(shard, pictures.dictionary_page_offset + pictures.total_compressed_size - 30)
    options = {"emotions": ["awe", "fear"], "label_column": "emotion", "scene_column": "x", "object_column": "x"}
    assert f"row 20 of {shard} is not (" in refused(root, **options)
    assert (
        set(range(20))
        <= set(flat(epoch(streaming(root, on_error="skip", **options).train_dataloader())))
        < set(range(40))
    )


def test_a_description_that_is_none(tmp_path):
    root = parquet_tree(tmp_path)
    for split in ("train", "val"):
        table = parquet.read_table(root / split / "000.parquet")
        parquet.write_table(
            table.replace_schema_metadata({"huggingface": '{"info": {"features": 7}}'}), root / split / "000.parquet"
        )
    assert f"parquet must describe its columns as Hugging Face datasets does, or not at all; {root}" in refused(root)


def test_a_shard_that_changed_meanwhile(tmp_path):
    root = tar_tree(tmp_path / "tree")
    data = streaming(root)
    data.check(("train", "val"))
    write_tar(root / "train" / "000.tar", [("000.jpg", jpeg()), ("000.json", b'{"emotion": "awe"}')])
    with pytest.raises(
        UniEmoError, match=r"row [1-5] of .* is not .the shard ends before it, though 6 rows were counted"
    ):
        epoch(data.train_dataloader())


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("nowhere/*.parquet", "must stand for shards of one kind, .parquet or .tar; nowhere/.* has none"),
        ("nowhere", "has none"),
        ("s3://bucket/x", "data.root must be a folder, a pattern .* or hf://datasets/…; got s3://bucket/x"),
        (".", "has 1 .parquet and 1 .tar"),
        ("train.tar", "shards of val with images; .* call them val-….parquet or val/….tar, or give --data.val_shards"),
    ],
)
def test_places_without_shards(tmp_path, monkeypatch, root, words):
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "train.tar", [("0.jpg", jpeg()), ("0.cls", b"0"), ("1.jpg", jpeg()), ("1.cls", b"1")])
    parquet.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    (tmp_path / ".hidden.tar").touch()
    with pytest.raises(UniEmoError, match=words):
        streaming(root).check(("train", "val"))


@pytest.mark.parametrize("options", [{"cached_latents": True, "diffusion_size": 16}, {"fold": 2}, {"limit_train": 5}])
def test_what_needs_files(options):
    with pytest.raises(
        UniEmoError, match=f"data.{next(iter(options))} is for images that lie in files; Streaming has none"
    ):
        streaming("shards", **options)


# The hub, whose part a folder plays.


@pytest.fixture
def hub(tmp_path):
    class Hub(DirFileSystem):
        protocol = "hf"
        cachable = False

        def __init__(self, **options):
            super().__init__(path=str(tmp_path / "hub"), fs=fsspec.filesystem("file"))

        @classmethod
        def _strip_protocol(cls, path):
            return path.removeprefix("hf://").rstrip("/")

    before = fsspec.get_filesystem_class("hf")
    fsspec.register_implementation("hf", Hub, clobber=True)
    (tmp_path / "hub" / "datasets" / "owner").mkdir(parents=True)
    yield tmp_path / "hub" / "datasets" / "owner" / "name"
    fsspec.register_implementation("hf", before, clobber=True)


def test_parquet_at_the_hub(painted, hub):
    shutil.copytree(painted["parquet"], hub)
    data = streaming("hf://datasets/owner/name")
    assert sorted(flat(epoch(data.train_dataloader()))) == list(range(TRAIN))
    assert next(iter(data.test_dataloader())).names[0] == "test-00000-of-00001.parquet#0"
    found = list_shards("hf://datasets/owner/name/data/train-*", "data.root")
    assert [url for url, _ in found] == [
        f"hf://datasets/owner/name/data/train-0000{n}-of-00002.parquet" for n in (0, 1)
    ]


def test_tars_at_the_hub_say_how_many(painted, hub):
    shutil.copytree(painted["webdataset"], hub)
    with pytest.raises(UniEmoError, match=r"must have their numbers of images in sizes\.json beside them"):
        streaming("hf://datasets/owner/name").check()
    sizes = hub / "data" / "sizes.json"
    sizes.write_text("[]")
    with pytest.raises(UniEmoError, match=r"sizes\.json must be like"):
        streaming("hf://datasets/owner/name").check()
    counts = {"train-00000-of-00002.tar": 38, "train-00001-of-00002.tar": 38}
    sizes.write_text(json.dumps({**counts, "validation-00000-of-00001.tar": 8, "test-00000-of-00001.tar": 16}))
    assert sorted(flat(epoch(streaming("hf://datasets/owner/name").train_dataloader()))) == list(range(TRAIN))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_hub_out_of_reach(painted, hub, monkeypatch, on_error):
    shutil.copytree(painted["parquet"], hub)
    data = streaming("hf://datasets/owner/name", on_error=on_error)
    data.check()

    def gone(*args, **kwargs):
        raise ConnectionError("no route")

    loader = data.train_dataloader()
    monkeypatch.setattr(DirFileSystem, "open", gone)
    with pytest.raises(
        UniEmoError, match=r"the hub must stay in reach; hf://.*train-.* cannot be fetched \(no route\)"
    ):
        epoch(loader)
    monkeypatch.setattr(DirFileSystem, "find", gone)
    with pytest.raises(UniEmoError, match=r"data.root must be in reach; hf://datasets/owner/name is not \(no route\)"):
        streaming("hf://datasets/owner/name").check()
