"""``uniemo convert`` and the commands that take what it writes."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from convert.released_files import classifier_state, convert
from PIL import Image

from tests.refusals import refused
from uniemo.checkpoint import load_model, read_checkpoint
from uniemo.cli import main
from uniemo.configurations import CONFIGURATIONS as PACKAGED
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.taxonomy import MIKELS_8


def test_classify(converted, tmp_path, capsys):
    Image.new("RGB", (80, 70), "orange").save(tmp_path / "a.png")
    output = tmp_path / "x.jsonl"
    assert main(["classify", "--ckpt", str(converted), str(tmp_path / "a.png"), "--output", str(output)]) == 0
    assert set(json.loads(output.read_text())["probabilities"]) == set(MIKELS_8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from uniemo.miniature.synthesis import synthesize_emoset

    folder = tmp_path_factory.mktemp("emoset") / "data"
    synthesize_emoset(folder, train=16, val=8, test=24)
    return str(folder)


def test_test(converted, data, tmp_path, monkeypatch, capsys):
    """``uniemo test`` goes by the configuration in the file; only the data's folder is the user's to give."""
    monkeypatch.chdir(tmp_path)
    args = ["test", "--ckpt", str(converted), "--data.root", data, "--run_dir", "out"]
    assert main([*args, "--trainer.accelerator", "cpu"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_fit_starts_from_it(converted, best, data, tmp_path, monkeypatch, capsys):
    """The line that says why the default model does not fit holds the arguments with which it does."""
    monkeypatch.chdir(tmp_path)
    args = ["fit", "--config", "understanding.yaml", "--data.root", data, "--model.init_from", str(converted)]
    args += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--attention_maps.every_n_epochs", "0"]
    error = refused(capsys, *args, "--run_dir", "out")
    assert not Path("out").exists()
    more = error.partition(": add ")[2].split()
    assert more[:2] == ["--model.encoder.clip", "random:vit-w64-l3-p8-r64-e32"]
    assert more[-2:] == ["--model.head.hidden", "48"]
    assert main([*args, "--run_dir", "out", *more]) == 0
    model, _ = load_model("out/best.ckpt")
    released = best[1]["visual.visual_query_scene.weight"]
    assert 0 < float((model.encoder.scene_query.detach() - released).abs().max()) < 0.01


def test_released_recipes_fit_the_published_sizes():
    """What paper/released.yaml says of the model is what a converted ViT-L/14 of the authors has."""
    from uniemo.checkpoint import CheckpointInfo
    from uniemo.convert.released import ReleasedSizes
    from uniemo.convert.released_model import configs
    from uniemo.models.clip_shapes import PUBLISHED
    from uniemo.modules.transfer import mismatch
    from uniemo.plain_configs import plain_config
    from uniemo.vocabulary import Vocabulary

    sizes = ReleasedSizes(PUBLISHED["ViT-L-14"], 32, 768, 8, 768, 49408)
    encoder, head = configs(sizes)
    theirs = {"encoder": plain_config(encoder), "head": plain_config(head)}
    info = CheckpointInfo(Path("x"), "1", "understanding", Vocabulary(MIKELS_8, (), ()), theirs, {}, "")
    model = {}
    for name in ("understanding", "released"):
        for part, values in yaml.safe_load((PACKAGED / f"paper/{name}.yaml").read_text())["model"]["init_args"].items():
            model.setdefault(part, {}).update(values)
    own = {
        "encoder": plain_config(EncoderConfig(**model["encoder"])),
        "head": plain_config(HeadConfig(**model["head"])),
    }
    assert mismatch(own, info, same_tower=False) == ""
    paper = {"encoder": plain_config(EncoderConfig(clip="ViT-B-32")), "head": plain_config(HeadConfig(hidden=256))}
    assert mismatch(paper, info, same_tower=False) == (
        "--model.encoder.clip ViT-L-14 --model.encoder.interactive released --model.head.hidden 768"
    )
    assert mismatch(paper, info, same_tower=True) == "--model.encoder.interactive released --model.head.hidden 768"


def test_existing_output(best, tmp_path, capsys):
    output = tmp_path / "x.ckpt"
    output.write_text("mine")
    assert convert(best[0], output) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert convert(best[0], output, "--overwrite") == 0
    read_checkpoint(output)
    out = capsys.readouterr().out
    assert "3 layers of width 64 with 1 heads, patches of 8 in 64 pixels" in out
    assert "best accuracy 71.5" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "required"),
        (["--from", "released", "no.pth", "--output", "x.ckpt"], "SOURCE must exist"),
        (["--from", "relaesed", "best.pth", "--output", "x.ckpt"], "invalid choice"),
        (["--from", "released", "best.pth"], "--output"),
        (["--from", "released", "--to", "safetensors", "best.pth", "--output", "x"], "not allowed"),
        (["--from", "released", "best.pth", "--output", "best.pth", "--overwrite"], "another file than SOURCE"),
        (["--from", "released", "best.pth", "--output", "."], "is a folder"),
        (["--from", "released", "best.pth", "--output", "x.ckpt", "--draws", "3"], "--draws must come with diffusers"),
        (["--from", "released", "best.pth", "--output", "x.ckpt", "--space", "."], "--space must come with released"),
        (["--from", "released", "best.pth", "--output", "x.ckpt", "--emotions", "a,b"], "8 different names"),
        (["--from", "released", "best.pth", "--output", "x.ckpt", "--pixels", "x"], "invalid choice"),
        (["--from", "released", "best.pth", "--output", "x.ckpt", "--outptu", "x"], "did you mean --output"),
        (["--from", "coefficients", ".", "--output", "x.json"], "is a folder"),
        (["--to", "safetensors", "best.pth", "--output", "x.safetensors"], "must be a file written by uniemo fit"),
        (["--to", "diffusers", "best.pth", "--output", "x"], "must be a file written by uniemo fit"),
        (["--to", "diffusers", "best.pth", "--output", "best.pth"], "another file than SOURCE"),
    ],
)
def test_mistakes_are_one_line(best, tmp_path, monkeypatch, capsys, args, message):
    (tmp_path / "best.pth").symlink_to(best[0])
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "convert", *args)
    assert [path.name for path in Path().iterdir()] == ["best.pth"]


def test_classes_without_names(best, tmp_path, capsys):
    source, output = tmp_path / "six.pth", tmp_path / "x.ckpt"
    torch.save({"model": best[1], "Emo_classifier": classifier_state(64, 48, emotions=6)}, source)
    assert convert(source, output) == 0
    assert "classes are called emotion 0 and on: name all 6 with --emotions" in capsys.readouterr().out
    assert convert(source, output, "--overwrite", "--emotions", "a,b,c,d,e,f") == 0
    assert "note" not in capsys.readouterr().out
    assert read_checkpoint(output)[1].vocabulary.emotions == tuple("abcdef")


def test_help(capsys):
    assert main(["convert", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--from released FOLDER" in out
    assert "uniemo convert --to diffusers" in out
