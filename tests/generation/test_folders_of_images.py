"""Generating and scoring folders of images in one process and in two: the same images, the same scores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trees import drawn_index

from tests.forked import needs_two_cores, two_ranks
from tests.generation.generated_folders import arguments, assert_same_images, joint, pixels, psnr, rows_of
from tests.tiny_runs import assets, trained
from uniemo.checkpoint import load_model
from uniemo.cli import main
from uniemo.data.generated import read_index
from uniemo.distributed import even_batches
from uniemo.errors import UniEmoError
from uniemo.generation.filtering import filter_index, score_index
from uniemo.generation.sampling import first_images, generate_images
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture(scope="module")
def model():
    return load_model(trained("joint") / "best.ckpt", generation=True)[0]


def generator_of(model, seen=None):
    """Return the function that generates rows; the number of rows of each call goes to ``seen``."""

    def generate(part):
        if seen is not None:
            seen.append(len(part))
        weights = [{model.vocabulary.emotion_index(name): w for name, w in row["weights"].items()} for row in part]
        return model.generate(weights, [row["seed"] for row in part], steps=2, batch_size=len(part))

    return generate


def test_a_batch_holds_several_emotions(model, tmp_path):
    rows, seen = rows_of(), []
    generate_images(tmp_path / "one", rows, generator_of(model, seen), 16, progress=False)
    assert seen == [9]  # three emotions, one batch
    assert read_index(tmp_path / "one") == rows
    for size in (1, 4):
        generate_images(tmp_path / str(size), rows, generator_of(model), size, progress=False)
        assert_same_images(pixels(tmp_path / "one"), pixels(tmp_path / str(size)))
    # each is the image of its own emotion and seed
    mixed = {model.vocabulary.emotion_index("awe"): 0.7, model.vocabulary.emotion_index("fear"): 0.3}
    alone = model.generate(mixed, [6], steps=2)[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    assert psnr(alone, pixels(tmp_path / "one")["awe+fear/00001.png"]) >= 50
    shown = first_images(tmp_path / "one", rows, 2)
    assert {name: tuple(part.shape) for name, part in shown.items()} == dict.fromkeys(
        ("awe", "fear", "awe+fear"), (2, 3, 32, 32)
    )


@pytest.mark.parametrize("lost", [[0], [3, 4], [8], [1, 7], range(5, 9), range(9)])
def test_what_is_missing_comes_out_as_it_was(model, tmp_path, lost):
    rows, seen = rows_of(), []
    generate_images(tmp_path, rows, generator_of(model), 4, progress=False)
    before = {row["file"]: (tmp_path / row["file"]).read_bytes() for row in rows}
    for number in lost:
        (tmp_path / rows[number]["file"]).unlink()
    kept = {file: (tmp_path / file).stat().st_mtime_ns for file in before if (tmp_path / file).exists()}
    generate_images(tmp_path, rows, generator_of(model, seen), 4, progress=False)
    assert {file: (tmp_path / file).read_bytes() for file in before} == before
    assert {file: (tmp_path / file).stat().st_mtime_ns for file in kept} == kept
    assert seen == [3] * len({number // 3 for number in lost})  # whole batches of 9 in 3, of which an image is missing


def test_weights_must_be_as_many_as_seeds(model):
    with pytest.raises(UniEmoError, match="as many as seeds; got 1 for 2"):
        model.generate([{0: 1.0}], [1, 2])


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
    assert main(arguments(out="one")) == 0
    capfd.readouterr()
    assert main(arguments("--devices", "2", "--batch_size", "3", out="two")) == 0
    out, err = capfd.readouterr()
    sampled, wrote = out.splitlines()  # one process says each
    assert sampled.startswith("features sampled as mixture: median distance to the nearest training image")
    assert wrote == "wrote 16 images, index.jsonl and grid.png to two"
    assert "generating" not in err  # no terminal, no bar
    assert_same_images(pixels("one"), pixels("two"))
    assert Path("one/index.jsonl").read_text() == Path("two/index.jsonl").read_text()
    assert Path("two/grid.png").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


@pytest.mark.slow
@needs_two_cores
def test_torchrun_filter_and_evaluate_on_two_devices(tmp_path):
    assert main(arguments(out="one")) == 0
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "--", "uniemo"]
    subprocess.run([*run, *arguments(out="two")], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
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
