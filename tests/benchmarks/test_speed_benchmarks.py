"""Ways and arithmetic of the speed benchmarks, on tiny networks."""

import json

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import generation, stage2
from benchmarks.released_stage2 import PlainPictures, Released, Shapes
from benchmarks.timing import Rounds
from tests.tiny_runs import assets, trained
from uniemo.checkpoint import load_model
from uniemo.miniature.synthesis import synthesize_emoset


@pytest.fixture
def shapes():
    folder = assets()
    return Shapes(str(folder / "clip"), str(folder / "diffusion"), 2, 16, 32, 32, painted=40, batch=4, steps=2)


def test_stage_2_ways_take_turns_and_the_others_leave_the_weights_alone(tmp_path, monkeypatch, shapes):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    setting = stage2.prepare(tmp_path, shapes, gpu=False, workers=0)
    before = {name: value.clone() for name, value in setting.module.model.named_parameters()}
    rounds = Rounds(repeats=1, warmup=0, say=False)
    turns = stage2.Turns(rounds, setting)
    seen = []

    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append({name: value.clone() for name, value in pl_module.model.named_parameters()})

    stage2.trainer(setting, tmp_path, 1, [Watch(), turns, Watch()]).fit(setting.module, datamodule=setting.data)
    assert rounds.times.samples == {"uniemo": 8, "released": 8, "released, lean": 8, "floor": 8}
    assert all(torch.equal(value, seen[1][name]) for name, value in seen[0].items())
    assert any(not torch.equal(value, before[name]) for name, value in seen[0].items())
    assert turns.encoded > 0


def test_both_forms_of_the_released_step_give_the_same_gradients(tmp_path, monkeypatch, shapes):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    setting = stage2.prepare(tmp_path, shapes, gpu=False, workers=0)
    released = Released(setting)
    learning = {name: value for name, value in setting.module.model.named_parameters() if value.requires_grad}
    table = released.table.clone()
    sample = next(iter(released.loader))
    found = {}
    for lean in (True, False):

        def keep(lean=lean):
            found[lean] = {name: value.grad.clone() for name, value in learning.items() if value.grad is not None}

        monkeypatch.setattr(released.optimizer, "step", keep)
        monkeypatch.setattr(released, "loader", [sample] * setting.samples)
        torch.manual_seed(0)
        setting.module.train()
        released.turn(lean)
    assert found[True].keys() == found[False].keys()
    assert any(value.abs().max() > 0 for name, value in found[True].items() if name.startswith("fusion"))
    for name, value in found[True].items():
        assert torch.allclose(value, found[False][name], rtol=1e-3, atol=1e-5 * float(value.abs().max())), name
    assert torch.equal(released.table, table)
    assert not any(parameter.requires_grad for parameter in released.unlearned)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in released.gradients)


def test_plain_pictures_are_those_of_the_annotations(tmp_path, shapes):
    tree = synthesize_emoset(tmp_path / "tree", train=16, val=8, test=8, size=40, missing=0.5)
    data = stage2.EmoSet(str(tree), image_size=32, diffusion_size=32, batch_size=4)
    pictures = PlainPictures(data.records("train"), data.vocabulary, shapes)
    entries = json.loads((tree / "train.json").read_text())
    for (emotion, _, annotation), found in zip(entries, pictures, strict=True):
        known = json.loads((tree / annotation).read_text())
        view, target, label, scene, objects, scene_text, object_text = found
        assert view.shape == target.shape == (3, 32, 32)
        assert target.min() >= -1
        assert target.max() <= 1
        assert data.vocabulary.emotions[label] == emotion
        assert scene_text == known.get("scene", "scene").replace("_", " ")
        assert (scene >= 0) == ("scene" in known)
        assert object_text.lower() == known.get("object", ["object"])[-1].lower()
        assert int(objects.sum()) == len(known.get("object", []))


def test_ways_generate_and_save(tmp_path):
    model, _ = load_model(trained("joint") / "best.ckpt", generation=True)
    assert generation.released(model, tmp_path, 2, steps=2) == 2
    released = np.asarray(Image.open(tmp_path / "00001.png"))
    generated = model.generate({generation.EMOTION: 1.0}, [1], steps=2, kind="gaussian")[0]
    ours = (generated * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(released.astype(int) - ours).max() <= 1  # the pipeline's own image
    assert generation.ours(model, tmp_path, 3, steps=2, batch=2) == 3
    assert generation.Floor(model, 3, steps=2, batch=2)() == 4
