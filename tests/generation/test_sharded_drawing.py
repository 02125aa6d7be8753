"""Drawing and scoring shared by several processes, and going on after a stop: the same images, the same scores."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rank_work import fail, write_names
from trees import drawn_index

from tests.forked import needs_two_cores, two_ranks
from tests.tiny_runs import assets, trained
from uniemo.checkpoint import load_model
from uniemo.cli import main
from uniemo.cli.parsing import processes_to_start
from uniemo.data.generated import read_index
from uniemo.distributed import even_batches
from uniemo.errors import UniEmoError
from uniemo.generation.filtering import filter_index, score_index
from uniemo.generation.partial import partial_folder
from uniemo.generation.sampling import first_images, generate_images, plan_images
from uniemo.launch import cpu_cores, launch
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.models.diffusion import DiffusionConfig, load_diffusion
from uniemo.models.uniemo import UniEmoModel
from uniemo.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def model():
    return load_model(trained("joint") / "best.ckpt", generation=True)[0]


def joint():
    return str(trained("joint") / "best.ckpt")


def words(*more, out="out"):
    fixed = ["generate", "--ckpt", joint(), "--emotion", "all", "--num", "2", "--steps", "2", "--out", out]
    return [*fixed, *more]


def pixels(folder):
    """Return the images of a folder by name, (H, W, 3) each."""
    files = sorted(Path(folder).glob("*/*.png"))
    return {file.relative_to(folder).as_posix(): np.asarray(Image.open(file)) for file in files}


def psnr(first, second):
    """Return the peak signal-to-noise ratio of byte images in dB."""
    error = np.square(first.astype(np.float64) - second.astype(np.float64)).mean()
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def assert_same_images(first, second):
    """No pixel differs but by rounding, and most not at all."""
    assert first.keys() == second.keys()
    ratios = [psnr(first[name], second[name]) for name in first]
    assert min(ratios) >= 50
    assert np.mean([np.mean(first[name] == second[name]) for name in first]) > 0.99


def drawing_of(model, seen=None):
    """Return the function that draws rows; the number of rows of each call goes to ``seen``."""

    def draw(part):
        if seen is not None:
            seen.append(len(part))
        weights = [{model.vocabulary.emotion_index(name): w for name, w in row["weights"].items()} for row in part]
        return model.generate(weights, [row["seed"] for row in part], steps=2, batch_size=len(part))

    return draw


def rows_of(num=3):
    """Return rows of two emotions and of a mixture."""
    mixes = ({"awe": 1.0}, {"fear": 1.0}, {"awe": 0.7, "fear": 0.3})
    return [row for mix in mixes for row in plan_images(mix, num, 5)]


def test_the_miniatures_images_do_not_depend_on_the_batch():
    diffusion = load_diffusion(DiffusionConfig("miniature:diffusion"))
    prompts = ["a flame at a beach", "a skull in a forest", "a cake in a stadium", "an eagle over a mountain"]
    images = {
        size: diffusion.generate(None, prompts, range(4), steps=6, guidance=5.0, batch_size=size).mul(255).round()
        for size in (1, 3, 16)
    }
    for size in (3, 16):
        for one, other in zip(images[1].numpy(), images[size].numpy(), strict=True):
            assert psnr(one, other) >= 50


def test_a_batch_holds_several_emotions(model, tmp_path):
    rows, seen = rows_of(), []
    generate_images(tmp_path / "one", rows, drawing_of(model, seen), 16, progress=False)
    assert seen == [9]  # three emotions, one batch
    assert read_index(tmp_path / "one") == rows
    for size in (1, 4):
        generate_images(tmp_path / str(size), rows, drawing_of(model), size, progress=False)
        assert_same_images(pixels(tmp_path / "one"), pixels(tmp_path / str(size)))
    # each is the image of its own emotion and seed
    mixed = {model.vocabulary.emotion_index("awe"): 0.7, model.vocabulary.emotion_index("fear"): 0.3}
    alone = model.generate(mixed, [6], steps=2)[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    assert psnr(alone, pixels(tmp_path / "one")["awe+fear/00001.png"]) >= 50
    shown = first_images(tmp_path / "one", rows, 2)
    assert {name: tuple(part.shape) for name, part in shown.items()} == dict.fromkeys(
        ("awe", "fear", "awe+fear"), (2, 3, 32, 32)
    )


def test_weights_must_be_as_many_as_seeds(model):
    with pytest.raises(UniEmoError, match="as many as seeds; got 1 for 2"):
        model.generate([{0: 1.0}], [1, 2])


def _draw_on_rank(rank, model, rows, folder):
    seen = []
    generate_images(folder / "two", rows, drawing_of(model, seen), 3, progress=False)
    (folder / f"seen{rank}.json").write_text(json.dumps(seen))


@needs_two_cores
def test_two_ranks_draw_what_one_draws(model, tmp_path):
    rows = rows_of()
    generate_images(tmp_path / "one", rows, drawing_of(model), 3, progress=False)
    two_ranks(_draw_on_rank, tmp_path, model, rows, tmp_path)
    shares = [json.loads((tmp_path / f"seen{rank}.json").read_text()) for rank in range(2)]
    assert [sum(share) for share in shares] == [5, 4]
    assert [len(share) for share in shares] == [2, 2]  # equally many batches
    assert_same_images(pixels(tmp_path / "one"), pixels(tmp_path / "two"))
    assert (tmp_path / "one/index.jsonl").read_text() == (tmp_path / "two/index.jsonl").read_text()
    assert not list((tmp_path / "two").rglob("*.tmp"))


def _batches_on_rank(rank, folder):
    shares = [even_batches(range(rank, count, 2), count, size) for count in range(2, 12) for size in (1, 2, 4)]
    (folder / f"{rank}.json").write_text(json.dumps([[list(part) for part in share] for share in shares]))


@needs_two_cores
def test_ranks_have_equally_many_batches(tmp_path):
    two_ranks(_batches_on_rank, tmp_path, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    sizes = [(count, size) for count in range(2, 12) for size in (1, 2, 4)]
    for one, other, (count, size) in zip(first, second, sizes, strict=True):
        assert len(one) == len(other)
        assert sorted(number for part in one + other for number in part) == list(range(count))
        assert max(map(len, one + other)) <= max(size, 2)


def test_even_batches():
    assert even_batches(range(33), 33, 32) == [range(16), range(16, 33)]
    assert even_batches([], 0, 4) == []
    assert even_batches(list("abc"), 3, 5) == [["a", "b", "c"]]


def _score_on_rank(rank, clip, classifier, names, index):
    score_index(index, clip, classifier, names, batch_size=3)


@needs_two_cores
def test_two_ranks_score_and_keep_what_one_does(tmp_path):
    emotions = ("awe", "fear")
    clip = FrozenClip(str(assets() / "clip"))
    torch.manual_seed(0)
    classifier = EmotionClassifier(clip.embed_dim, 2).eval()
    names = Vocabulary(emotions, ("park", "beach"), ("eagle",))
    for folder in ("one", "two"):
        drawn_index(tmp_path / folder, emotions, per_emotion=10)
    score_index(tmp_path / "one", clip, classifier, names, batch_size=3)
    two_ranks(_score_on_rank, tmp_path, clip, classifier, names, tmp_path / "two")
    assert len({row["emo_a"] for row in read_index(tmp_path / "one")}) > 10
    for folder in ("one", "two"):
        assert sum(filter_index(tmp_path / folder, tmp_path / folder / "kept.jsonl").values()) > 0
    for name in ("index.jsonl", "kept.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@needs_two_cores
def test_generate_on_two_devices(tmp_path, capfd):
    assert main(words(out="one")) == 0
    capfd.readouterr()
    assert main(words("--devices", "2", "--batch_size", "3", out="two")) == 0
    out, err = capfd.readouterr()
    assert out == "wrote 16 images, index.jsonl and grid.png to two\n"
    assert "16/16" in err
    assert err.count("generating:   0%") == 1  # one bar for all
    assert_same_images(pixels("one"), pixels("two"))
    assert Path("one/index.jsonl").read_text() == Path("two/index.jsonl").read_text()
    assert Path("two/grid.png").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


@pytest.mark.slow
@needs_two_cores
def test_torchrun_filter_and_evaluate_on_two_devices(tmp_path):
    assert main(words(out="one")) == 0
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "--", "uniemo"]
    subprocess.run([*run, *words(out="two")], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert_same_images(pixels("one"), pixels("two"))
    for name, more in (("kept1", []), ("kept2", ["--devices", "2"])):
        fixed = ["filter", "--generated", "one", "--ckpt", joint(), "--out", name, "--batch_size", "4"]
        assert main([*fixed, "--low", "0", "--high", "1", *more]) == 0
    assert (tmp_path / "kept1/kept.jsonl").read_bytes() == (tmp_path / "kept2/kept.jsonl").read_bytes()
    figures = []
    for name, more in (("one.json", []), ("two.json", ["--devices", "2"])):
        fixed = ["evaluate", "--real", str(assets() / "tree"), "--generated", "one", "--output", name]
        assert main([*fixed, "--classifier", "none", "--protocol", "strict", "--no_cache", *more]) == 0
        figures.append(json.loads((tmp_path / name).read_text())["protocols"]["strict"]["figures"])
    assert figures[0].keys() == figures[1].keys() >= {"FID", "LPIPS", "Sem-C", "Sem-D"}
    for name, figure in figures[0].items():
        assert figures[1][name]["value"] == pytest.approx(figure["value"], rel=1e-5), name


def test_ranks_find_their_place(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launch(write_names, (str(tmp_path), ".txt"), 2)
    found = [(tmp_path / f"{rank}.txt").read_text().split() for rank in range(2)]
    threads = str(max(1, cpu_cores() // 2))
    assert [names[:5] for names in found] == [[rank, rank, "2", "2", threads] for rank in "01"]
    assert found[0][5] == found[1][5]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("mistake", "--num must be smaller; got 7: take 6"),
        ("path", "No such file or directory: .*gone.txt"),
        ("fault", "RuntimeError: nobody has thought of this"),
        ("kill", r"process 2 of 2 was killed \(exit code -9\) and the others were ended"),
    ],
)
def test_a_rank_that_fails_ends_the_others(tmp_path, capfd, how, message):
    start = time.monotonic()
    with pytest.raises(UniEmoError, match=f"^{message}"):
        launch(fail, (str(tmp_path), how), 2)
    assert time.monotonic() - start < 30  # the other one would have slept for a minute
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "first").read_text()), 0)
    assert ("Traceback" in capfd.readouterr().err) == (how == "fault")


@pytest.mark.slow
@needs_two_cores
def test_a_rank_that_fails_leaves_nothing(tmp_path, capsys):
    assert main(words("--devices", "2", "--prompt", "a room " * 9 + "{}")) == 2  # found in the ranks
    error = capsys.readouterr().err
    assert error.startswith("error: a prompt must hold {}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_devices_that_are_not_there(tmp_path, capsys, monkeypatch):
    assert main(words("--device", "cpu", "--devices", "999")) == 2
    assert "--devices must not exceed the" in capsys.readouterr().err
    assert main(words("--device", "meta", "--devices", "2")) == 2
    assert "--device must be cpu, cuda or auto" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes_to_start(4, "cpu") == 1  # torchrun has started them


def interrupt_after(monkeypatch, batches, error=KeyboardInterrupt):
    """Stop the drawing after some batches."""
    whole, calls = UniEmoModel.generate, []

    def generate(self, *args, **kwargs):
        if len(calls) == batches:
            raise error
        calls.append(1)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(UniEmoModel, "generate", generate)


def test_a_stopped_run_goes_on(tmp_path, capsys, monkeypatch):
    assert main(words(out="whole")) == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert main(words("--resume", "--batch_size", "4")) == 130
    kept = {path: path.stat().st_mtime_ns for path in Path("out.partial").glob("*/*.png")}
    assert 4 <= len(kept) <= 8  # the last batch may still have been on its way
    assert f"{len(kept)} images are kept in {tmp_path / 'out.partial'}" in capsys.readouterr().err
    assert main(words()) == 2
    assert "add --resume to go on" in capsys.readouterr().err
    assert main(words("--resume", "--seed", "3")) == 2
    error = capsys.readouterr().err
    assert "with seed 0; got 3" in error
    assert error.count("\n") == 1
    assert len(list(Path("out.partial").glob("*/*.png"))) == len(kept)  # mistakes cost nothing
    damaged = next(iter(kept))
    damaged.write_bytes(damaged.read_bytes()[:50])
    assert main(words("--resume", "--batch_size", "3")) == 0
    assert_same_images(pixels("whole"), pixels("out"))
    same = [path for path in kept if path != damaged]
    assert all(Path("out", *path.parts[1:]).stat().st_mtime_ns == kept[path] for path in same)  # not drawn again
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out"}
    assert {path.name for path in Path("out").iterdir()} == {path.name for path in Path("whole").iterdir()}


@pytest.mark.parametrize("error", [KeyboardInterrupt, UniEmoError("no")])
def test_nothing_is_left_without_resume(tmp_path, monkeypatch, error):
    interrupt_after(monkeypatch, 1, error)
    assert main(words("--batch_size", "4", out="new/folder/out")) != 0
    assert not list(tmp_path.iterdir())


def stopped(folder):
    """Be told to stop while drawing into a folder."""
    with partial_folder(folder, rows_of(), resume=False) as unfinished:
        (unfinished / "awe").mkdir()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


def test_sigterm_cleans_up(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        stopped(tmp_path / "out")
    assert stop.value.code == 143
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def failing(folder):
    """Fail before the first image is drawn."""
    with partial_folder(folder, rows_of(), resume=True):
        raise ValueError("no")


def test_an_empty_folder_is_replaced_and_none_is_kept_without_images(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match="no"):
        failing(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with partial_folder(out, rows_of(), resume=True) as folder:
        assert read_index(folder / "plan.jsonl") == rows_of()
        with pytest.raises(UniEmoError, match="with 9 images; got 3"):
            partial_folder(out, rows_of(1), resume=True).__enter__()
        (folder / "index.jsonl").write_text("{}")
    assert [path.name for path in out.iterdir()] == ["index.jsonl"]
