"""Released checkpoints as checkpoints of ours: both stages and the emotion space."""

import json
import pickle

import pytest
import torch
import torch.nn.functional as F
from convert.released_files import classifier_state, convert, reference, released_state, whole_file

from uniemo.checkpoint import load_model
from uniemo.cli import main
from uniemo.convert.stages import convert_released
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD
from uniemo.errors import UniEmoError
from uniemo.models.clip import load_clip
from uniemo.taxonomy import MIKELS_8

TOKEN_WIDTH = 128  # of the miniature's text encoder


def test_the_checkpoint_computes_the_same_and_names_no_download(best, converted):
    model, info = load_model(converted)
    assert info.stage == "understanding"
    assert info.vocabulary.emotions == MIKELS_8
    assert info.model["encoder"]["clip"] == "random:vit-w64-l3-p8-r64-e32"
    assert info.model["encoder"]["stages"] == [1, 2]
    images = torch.randn(2, 3, 64, 64)
    wanted = reference(best[1], images, best[2])
    with torch.no_grad():
        features = model.encoder(images)
        assert torch.allclose(model.head(features.cls), wanted["logits"], rtol=0, atol=1e-5)
    assert torch.allclose(features.object, wanted["object"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("pixels", "mean", "std"), [
    ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("half", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
])  # fmt: skip
def test_pixels(best, tmp_path, pixels, mean, std):
    """On images normalised as ours are, the tower sees what it saw on images normalised as in its training."""
    convert_released(best[0], tmp_path / "x.ckpt", pixels=pixels)
    model, _ = load_model(tmp_path / "x.ckpt")
    images = torch.rand(2, 3, 64, 64)

    def normalise(mean, std):
        return (images - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)

    wanted = reference(best[1], normalise(mean, std))
    with torch.no_grad():
        features = model.encoder(normalise(CLIP_MEAN, CLIP_STD))
    for name in ("cls", "scene", "object", "patches"):
        assert torch.allclose(getattr(features, name), wanted[name], rtol=0, atol=1e-5), name


def test_clip_of_any_shape():
    clip = load_clip("random:vit-w128-l4-p16-r48-e24")
    assert (clip.width, clip.embed_dim, clip.image_size) == (128, 24, 48)
    assert len(clip.visual.transformer.resblocks) == 4
    assert clip.visual.transformer.resblocks[0].attn.num_heads == 2
    assert clip.text(["beach", "cake"]).shape == (2, 24)
    with pytest.raises(UniEmoError, match="multiple of 64"):
        load_clip("random:vit-w100-l4-p16-r48-e24")


# Stage 2.


def mapper_state(width, out, seed, hidden=96):
    generator = torch.Generator().manual_seed(seed)
    return {
        "mlp.0.weight": torch.randn(hidden, width, generator=generator) * width**-0.5,
        "mlp.0.bias": torch.randn(hidden, generator=generator) * 0.1,
        "mlp.2.weight": torch.randn(out, hidden, generator=generator) * hidden**-0.5,
        "mlp.2.bias": torch.randn(out, generator=generator) * 0.1,
    }


def write_space(folder, width=64):
    folder.mkdir()
    generator = torch.Generator().manual_seed(4)
    for emotion in MIKELS_8:
        for kind in ("cls_fea", "scene", "object"):
            torch.save(torch.randn(width, generator=generator), folder / f"{emotion}_{kind}_mean.pt")
            torch.save(torch.rand(width, generator=generator), folder / f"{emotion}_{kind}_std.pt")


@pytest.fixture
def folder(best, tmp_path):
    """A stage 2 folder whose mappers fit the miniature's diffusion model."""
    folder = tmp_path / "stage2"
    folder.mkdir()
    torch.save({"model": best[1], "Emo_classifier": best[2]}, folder / "VIT_query.pth")
    for seed, name in enumerate(("mapper", "mapper_scene", "mapper_object")):
        torch.save(mapper_state(64, TOKEN_WIDTH, seed), folder / f"{name}.pth")
    write_space(folder / "UniEmo_space")
    return folder


def convert_stage2(folder, output, *args):
    return convert(folder, output, "--diffusion", "miniature:diffusion", *args)


def mapped(path, x):
    w = torch.load(path, weights_only=True)
    return F.linear(F.relu(F.linear(x, w["mlp.0.weight"], w["mlp.0.bias"])), w["mlp.2.weight"], w["mlp.2.bias"])


def test_stage_2_conditions_are_the_mappers_sum(best, folder, tmp_path):
    """c = mapper(cls) + α_s·mapper_scene(scene) + α_o·mapper_object(object), α out of the tables by emotion."""
    tables = {name: tmp_path / f"{name}.pkl" for name in ("scenes", "objects")}
    rows = torch.rand(5, 8).numpy()
    names = ("beach", "forest"), ("cake", "eagle", "flame")
    for path, part, row in zip(tables.values(), names, (rows[:2], rows[2:]), strict=True):
        path.write_bytes(pickle.dumps(dict(zip(part, row, strict=True))))
    output = tmp_path / "joint.ckpt"
    assert convert_stage2(folder, output, "--scenes", tables["scenes"], "--objects", tables["objects"]) == 0
    model, info = load_model(output, ("joint",), generation=True)
    assert (info.vocabulary.scenes, info.vocabulary.objects) == names
    images = torch.randn(4, 3, 64, 64)
    wanted = reference(best[1], images)
    weights = torch.tensor([0, 3, 5, 7])
    with torch.no_grad():
        condition = model.condition(model.features(images), weights)
    alphas = []
    for kind, table in (("scene", rows[:2]), ("object", rows[2:])):
        projected = wanted[kind] @ best[1][f"visual_query_{kind}_proj"]
        nearest = F.cosine_similarity(projected[:, None], model.bank.text(kind)[None], dim=-1).argmax(dim=1)
        alphas.append(torch.tensor(table)[nearest, weights].unsqueeze(1))
    total = mapped(folder / "mapper.pth", wanted["cls"])
    total = total + alphas[0] * mapped(folder / "mapper_scene.pth", wanted["scene"])
    total = total + alphas[1] * mapped(folder / "mapper_object.pth", wanted["object"])
    assert torch.allclose(condition[0], total, rtol=0, atol=1e-5)


def test_stage_2_space_has_the_means_and_deviations(folder, tmp_path):
    output = tmp_path / "joint.ckpt"
    assert convert_stage2(folder, output) == 0
    model, info = load_model(output, generation=True)
    assert info.model["space"]["kind"] == "gaussian"
    space = model.space
    awe = MIKELS_8.index("awe")
    for ours, theirs in (("cls", "cls_fea"), ("scene", "scene"), ("object", "object")):
        mean = torch.load(folder / "UniEmo_space" / f"awe_{theirs}_mean.pt", weights_only=True)
        std = torch.load(folder / "UniEmo_space" / f"awe_{theirs}_std.pt", weights_only=True)
        assert torch.equal(getattr(space, f"mean_{ours}")[awe], mean)
        assert torch.equal(getattr(space, f"std_{ours}")[awe], std)
    with pytest.raises(UniEmoError, match="does not: take --space gaussian"):
        space.sample(awe, [torch.Generator()], "variation")


def test_stage_2_generates_and_classifies(folder, tmp_path):
    output = tmp_path / "joint.ckpt"
    assert convert_stage2(folder, output) == 0
    args = ["generate", "--ckpt", str(output), "--emotion", "fear", "--num", "1", "--steps", "2"]
    assert main([*args, "--out", str(tmp_path / "images"), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "images").glob("*/*.png"))) == 1
    assert main(["classify", "--ckpt", str(output), str(tmp_path / "images" / "fear")]) == 0


def test_stage_2_space_elsewhere_or_nowhere(folder, tmp_path, capsys):
    (folder / "UniEmo_space").rename(tmp_path / "space")
    assert convert_stage2(folder, tmp_path / "a.ckpt", "--space", tmp_path / "space") == 0
    assert load_model(tmp_path / "a.ckpt", generation=True)[0].space.fitted
    assert convert_stage2(folder, tmp_path / "b.ckpt") == 0
    assert not load_model(tmp_path / "b.ckpt", generation=True)[0].space.fitted
    assert "no UniEmo_space" in capsys.readouterr().out


def test_triplet_head_is_the_classifiers_last_layer_where_widths_agree(best, folder, tmp_path):
    torch.save({"model": best[1], "Emo_classifier": classifier_state(64, TOKEN_WIDTH)}, folder / "VIT_query.pth")
    assert convert_stage2(folder, tmp_path / "a.ckpt") == 0
    loss = load_model(tmp_path / "a.ckpt", generation=True)[0].condition_loss
    assert torch.equal(loss.heads[0].weight, classifier_state(64, TOKEN_WIDTH)["fc1.weight"])


def spoil(folder, name, change):
    path = folder / name
    if change is None:
        path.unlink()
    else:
        torch.save(change, path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mapper_scene.pth", None, "mapper_scene.pth does not exist"),
        ("VIT_query.pth", None, "VIT_query.pth does not exist"),
        ("mapper.pth", mapper_state(32, TOKEN_WIDTH, 0), "features of width 64"),
        ("mapper.pth", mapper_state(64, TOKEN_WIDTH, 0) | {"mlp.1.weight": torch.ones(1)}, "mlp.1.weight"),
        ("mapper.pth", {"fc.weight": torch.ones(3)}, "fc.weight"),
        ("mapper_object.pth", mapper_state(64, 32, 0), "same hidden and output widths"),
        ("mapper.pth", mapper_state(64, TOKEN_WIDTH, 0) | {"mlp.0.bias": torch.ones(10**6)}, "mlp.0.weight of"),
        ("UniEmo_space/awe_object_mean.pt", torch.ones(64).to_sparse(), "64 finite numbers"),
        ("UniEmo_space/awe_scene_std.pt", None, "awe_scene_std.pt does not exist"),
        ("UniEmo_space/awe_scene_std.pt", -torch.ones(64), "deviations from 0"),
        ("UniEmo_space/awe_scene_mean.pt", torch.ones(32), "64 finite numbers"),
    ],
)
def test_stage_2_refused(folder, tmp_path, capsys, name, change, message):
    spoil(folder, name, change)
    assert convert_stage2(folder, tmp_path / "joint.ckpt") == 2
    assert not (tmp_path / "joint.ckpt").exists()
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_module_from_checkpoint(converted, best):
    """Lightning's own way from Python, as with a checkpoint of ``uniemo fit``."""
    from uniemo.modules import UnderstandingModule

    module = UnderstandingModule.load_from_checkpoint(converted, map_location="cpu", weights_only=True)
    assert torch.equal(module.model.encoder.scene_query, best[1]["visual.visual_query_scene.weight"])


def test_tables_give_names_and_coefficients(best, tmp_path):
    table = tmp_path / "x.json"
    table.write_text(json.dumps({"beach": [0.125] * 8}))
    assert convert(best[0], tmp_path / "x.ckpt", "--scenes", table) == 0
    model, info = load_model(tmp_path / "x.ckpt")
    assert info.vocabulary.scenes == ("beach",)
    assert model.bank.scene_table.tolist() == [[0.125] * 8]
    assert torch.equal(model.scene_projection.weight, best[1]["visual_query_scene_proj"].T)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "layers", "patch", "image", "embed", "name"), [
    (768, 12, 32, 224, 512, "vit-w768-l12-p32-r224-e512"),
    (768, 12, 16, 224, 512, "vit-w768-l12-p16-r224-e512"),
    (1024, 24, 14, 224, 768, "vit-w1024-l24-p14-r224-e768"),
    (1024, 24, 14, 336, 768, "vit-w1024-l24-p14-r336-e768"),
])  # fmt: skip
def test_true_size(tmp_path, width, layers, patch, image, embed, name):
    """The published sizes with 32 queries, random weights: through the command and back, in numbers."""
    state = released_state(width, layers, patch, image, 32, embed, text=embed, vocab=49408, context=77)
    classifier = classifier_state(width, 768)
    torch.save(whole_file(state, classifier), tmp_path / "best.pth")
    assert convert(tmp_path / "best.pth", tmp_path / "x.ckpt") == 0
    model, info = load_model(tmp_path / "x.ckpt")
    assert info.model["encoder"]["clip"] == f"random:{name}"
    assert info.model["encoder"]["stages"] == [layers // 3, 2 * layers // 3]
    images = torch.randn(1, 3, image, image)
    wanted = reference(state, images, classifier)
    with torch.no_grad():
        features = model.encoder(images)
        logits = model.head(features.cls)
    for part in ("cls", "scene", "object"):
        assert torch.allclose(getattr(features, part), wanted[part], rtol=0, atol=1e-5), part
    assert torch.allclose(logits, wanted["logits"], rtol=0, atol=1e-5)
    # without ln_post patches are tens in size, and 1e-5 is one rounding error of that
    assert torch.allclose(features.patches, wanted["patches"], rtol=0, atol=1e-6 * float(wanted["patches"].abs().max()))
