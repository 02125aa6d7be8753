"""The callback, ``test``, ``evaluate`` and ``reproduce``: one suite, each metric by the network that it is named after.

All take the published set by name, from files of the true architectures with random weights, in the published forms.
The images are a tiny generator's, made and measured one at a time, so that all four see the same ones to the bit.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torchvision.models import resnet50
from weight_files import inception_script, inception_state, trunk_file

from tests.tiny_runs import assets, run_folder, trained  # noqa: F401 - a fixture for all tests here
from uniemo.cli import main
from uniemo.data.images import load_images
from uniemo.metrics import imagenet, inception, perceptual
from uniemo.metrics.image_sets import read_images
from uniemo.metrics.network_weights import randomise
from uniemo.metrics.networks import load_network
from uniemo.metrics.resizing import clean_resize
from uniemo.studies.cells import Setting, cells_of
from uniemo.studies.study_files import read_study
from uniemo.studies.work import WorkFolder, add_result, describe, result_of
from uniemo.taxonomy import MIKELS_8

NAMES = {  # of the metrics, with their networks
    "FID[inception]",
    "KID[inception]",
    "LPIPS[alex@64]",
    "Emo-A[clip+head]",
    "Emo-A probability[clip+head]",
    "Sem-C[resnet50+resnet50-places365]",
    "Sem-D[clip]",
}

SMALL = {(inception, "SIZE"): 75, (perceptual, "DEFAULT_SIZE"): 64, (imagenet, "RESIZE"): 40, (imagenet, "CROP"): 32}


def resnet_state(seed, classes):
    network = resnet50(num_classes=classes)
    randomise(network, seed)
    for part in network.modules():
        if hasattr(part, "bn3"):
            nn.init.constant_(part.bn3.weight, 0.25)
    return network.state_dict()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The published files, where torch hub keeps them, and a head in EmoGen's form; LPIPS' own network beside them."""
    home = tmp_path_factory.mktemp("weights")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = inception_state()
    inception_script(folder, state)
    torch.save(state, folder / "weights-inception-2015-12-05-6726825d.pth")
    path, reference = trunk_file(folder, "alex")
    path.rename(folder / "alexnet-owt-7be5be79.pth")
    torch.save(resnet_state(1, 1000), folder / "resnet50-0676ba61.pth")
    places = {f"module.{name}": value for name, value in resnet_state(2, 365).items()}
    torch.save({"state_dict": places}, folder / "resnet50_places365.pth.tar")
    head = {"fc.weight": torch.randn(8, 16, generator=torch.Generator().manual_seed(3)), "fc.bias": torch.zeros(8)}
    torch.save(head, home / "head.pth")
    return home, head, reference


@pytest.fixture
def published(weights, monkeypatch):
    """Only these files, and small pictures for the networks."""
    home, _, _ = weights
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for (module, name), size in SMALL.items():
        monkeypatch.setattr(module, name, size)
    return home


def chosen(metrics):
    """Those of generated images over all emotions."""
    return {name: value for name, value in metrics.items() if name in NAMES}


def evaluated(path, protocol="strict"):
    """The metrics of a result of evaluate, named as those of a test."""
    figures = json.loads(Path(path).read_text())["protocols"][protocol]["figures"]
    named = {}
    for name, score in figures.items():
        networks = dict.fromkeys(key.rpartition(" ")[0] for key in score["networks"])
        named[f"{name}[{'+'.join(networks)}]"] = score["value"]
    return named


def run(*args):
    assert main([str(arg) for arg in args]) == 0, args


def frechet(x, y):
    """FID of few rows: tr (S1 S2)^½ is the nuclear norm of the product of the centred rows, over √((n - 1)(m - 1))."""
    rows = [part - part.mean(0) for part in (x, y)]
    spread = sum((part**2).sum() / (len(part) - 1) for part in rows)
    root = np.linalg.norm(rows[0] @ rows[1].T, "nuc") / np.sqrt((len(x) - 1) * (len(y) - 1))
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + spread - 2 * root


def by_hand(images, real, weights):
    """Every metric from the networks that it is named after, without the suite."""
    home, head, reference = weights
    folder, clip = home / "hub" / "checkpoints", str(assets() / "clip")
    ours, theirs = (
        load_network("fid", str(folder / "weights-inception-2015-12-05-6726825d.pth"))(part)["features"]
        .double()
        .numpy()
        for part in (images, real)
    )
    features = load_network("clip", clip)(images)["features"]
    probabilities = (features @ head["fc.weight"].T + head["fc.bias"]).softmax(dim=1)
    wanted = torch.arange(8).repeat_interleave(2)  # two images of each of Mikels' emotions
    softmaxes = [
        load_network(role, str(folder / name))(images)["probabilities"].amax(dim=1)
        for role, name in (("imagenet", "resnet50-0676ba61.pth"), ("places", "resnet50_places365.pth.tar"))
    ]
    scaled = clean_resize(images, 64) * 2 - 1
    with torch.no_grad():
        distance = reference(scaled[::2], scaled[1::2])
    found = {
        "FID[inception]": frechet(theirs, ours),
        "LPIPS[alex@64]": distance.mean(),
        "Emo-A[clip+head]": (probabilities.argmax(dim=1) == wanted).double().mean(),
        "Emo-A probability[clip+head]": probabilities.gather(1, wanted[:, None]).mean(),
        "Sem-C[resnet50+resnet50-places365]": torch.maximum(*softmaxes).mean(),
        "Sem-D[clip]": (features[::2] - features[1::2]).square().mean(),
    }
    return {name: float(value) for name, value in found.items()}


def write_study(checkpoint, clip, head):
    """A study of one cell that generates and evaluates at paper scale."""
    evaluate = (
        "--generated {here}/generate --real {data}/EmoSet --split test --real_size generated --networks published "
        f"--protocol strict --batch_size 1 --clip {clip} --classifier {head}"
    )
    steps = [
        {"run": "test", "scale": "miniature", "args": "--ckpt nothing.ckpt"},
        {
            "run": "generate",
            "scale": "paper",
            "args": f"--ckpt {checkpoint} --emotion all --num 2 --batch_size 1 --seed 0",
        },
        {"run": "evaluate", "into": "strict", "scale": "paper", "args": evaluate},
    ]
    rows = [{"label": "Ours", "cell": "ours", "paper": {"FID": 1.0}}]
    study = {
        "title": "Table X: images",
        "claim": "none",
        "metrics": {"FID": {"key": "FID", "best": "low"}},
        "rows": rows,
    }
    Path("tablex.yaml").write_text(yaml.safe_dump({**study, "cells": {"ours": {"steps": steps}}}))
    return read_study("tablex.yaml")


def reproduce(study):
    """Run the commands of the study's cell here, as its runner does elsewhere; return the metrics of its result."""
    work, (cell,) = WorkFolder(Path("work")), cells_of(study, 0, Setting("paper", data=Path("data")))
    steps = []
    for command in cell.commands:
        run(*command.on_disk(work.cells, cell.hash))
        steps.append({"run": command.run, "into": command.into, "started": "", "seconds": 1.0, "peak_memory": 1})
    (work.folder(cell) / "steps.json").write_text(json.dumps(steps))
    result = result_of(describe(cell), work.folder(cell))
    assert len(result["hits"]["Emo-A"]) == 3
    assert result["sampler"] == "mixture"
    add_result(work.results_file, result)
    run("reproduce", "tablex.yaml", "--scale", "paper", "--data", "data", "--work", "work", "--seeds", 0, "--no-run")
    return {name.removeprefix("test/"): value for name, value in result["figures"].items()}


def test_four_ways_one_suite(published, weights):
    checkpoint, clip, head = trained("joint") / "best.ckpt", assets() / "clip", published / "head.pth"
    settings = {
        "networks": "published",
        "clip": clip,
        "judge": head,
        "batch_size": 1,
        "val_images": 2,
        "test_images": 2,
    }
    options = [word for name, value in settings.items() for word in (f"--generation_metrics.{name}", value)]
    for command in ("validate", "test"):  # the callback at the end of an epoch, and in a test
        run(command, "--ckpt", checkpoint, "--run_dir", command, "--data.eval_batch_size", 1, *options)
    run("generate", "--ckpt", checkpoint, "--emotion", "all", "--num", 2, "--batch_size", 1, "--out", "generated")
    shared = ["--generated", "generated", "--real", assets() / "tree", "--real_size", "generated", "--batch_size", 1]
    shared += ["--networks", "published", "--clip", clip, "--classifier", head]
    run("evaluate", *shared, "--split", "val", "--protocol", "strict", "--output", "val.json")
    run("evaluate", *shared, "--split", "test", "--output", "test.json")
    shutil.copytree(assets() / "tree", "data/EmoSet")
    reproduced = reproduce(write_study(checkpoint, clip, head))

    found = chosen(json.loads(Path("test/test_generation.json").read_text())["generated"])
    assert found.keys() == NAMES
    assert found == chosen(evaluated("test.json")) == chosen(reproduced)  # to the last digit
    logged = json.loads(Path("test/test.json").read_text())
    assert {
        f"test/{name}": float(np.float32(value)) for name, value in found.items()
    }.items() <= logged.items()  # Lightning's
    early = json.loads(Path("validate/validate.json").read_text())
    early = chosen({name.removeprefix("val/"): value for name, value in early.items()})
    assert early == {name: float(np.float32(value)) for name, value in chosen(evaluated("val.json")).items()}
    for metrics, split in ((found, "test"), (early, "val")):
        images = load_images([Path(f"generated/{name}/0000{k}.png") for name in MIKELS_8 for k in range(2)])
        real = load_images(read_images(assets() / "tree", split).files())
        for name, value in by_hand(images, real, weights).items():
            assert metrics[name] == pytest.approx(value, rel=1e-4), name
    table = Path("work/paper/tablex.md").read_text()
    assert "measured with inception" in table
    assert f"**{found['FID[inception]']:.2f}" in table

    # every network by its weights, and emogen's own beside them
    networks = json.loads(Path("test.json").read_text())["networks"]
    saw = {(one["name"], one["hash"]) for one in json.loads(Path("test/test_generation.json").read_text())["networks"]}
    assert saw == {(one["name"], one["hash"]) for one in networks.values() if one["name"] != "inception-fidelity"}
    assert "FID[inception-fidelity]" in evaluated("test.json", "emogen")


def test_missing_files_are_said_before_training(published, tmp_path, monkeypatch, capsys):
    """All in one line with size and command, by fit and by a study."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    recipe = ["fit", "--config", "joint.yaml", "--config", str(assets() / "stage2.yaml"), "--run_dir", "run"]
    assert main([*recipe, "--generation_metrics.networks", "published"]) == 2
    write_study(trained("joint") / "best.ckpt", assets() / "clip", published / "head.pth")
    Path("data/EmoSet").mkdir(parents=True)
    said = [capsys.readouterr().err]
    assert main(["reproduce", "tablex.yaml", "--scale", "paper", "--data", "data", "--work", "work"]) == 2
    said.append(capsys.readouterr().err)
    for text in said:
        (line,) = text.splitlines()
        for file in ("inception-2015-12-05.pt (96 MB)", "alexnet-owt-7be5be79.pth (233 MB)", "resnet50-0676ba61.pth"):
            assert file in line
        path = tmp_path / "empty/hub/checkpoints/resnet50_places365.pth.tar"
        address = "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar"
        assert f"fetch with `curl -L --create-dirs -o {path} {address}`" in line
    assert "--generation_metrics.networks miniature runs without any file" in said[0]
    assert not Path("run").exists()
    assert not Path("work/cells").exists()
    # what is not measured needs no files
    assert (
        main(
            [
                *recipe,
                "--generation_metrics.networks",
                "published",
                "--generation_metrics.every_n_epochs",
                "0",
                "--trainer.fast_dev_run",
                "true",
            ]
        )
        == 0
    )
