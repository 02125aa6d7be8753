import pytest
import torch

from tests.tiny_runs import assets, recipe, trained
from uniemo import UniEmoError
from uniemo.cli import main
from uniemo.data import EmoSet
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules.stage_losses import LossConfig, joint_loss, understanding_loss, understanding_terms


@pytest.fixture(scope="module")
def setting():
    data = EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=None, batch_size=16)
    torch.manual_seed(0)
    encoder = EncoderConfig(clip=str(assets() / "clip"), query_length=2)
    model = UniEmoModel.build(data.vocabulary, encoder, HeadConfig(hidden=8)).eval()
    batch = next(iter(data.evaluation_loader("train")))
    return model, batch


def terms_of(model, batch, **forms):
    features = model.features(batch.images)
    return understanding_terms(model, features, model.logits(features), batch, LossConfig(**forms), seed=0, step=0)


def test_generated_images_take_no_part_in_contrastive_losses(setting):
    model, batch = setting
    all_real = terms_of(model, batch)
    batch.generated = torch.ones(len(batch), dtype=torch.bool)
    generated = terms_of(model, batch)
    assert generated["scene"] == 0
    assert generated["object"] == 0
    assert generated["emotion"] == all_real["emotion"]
    batch.generated[:] = False
    assert all_real["scene"] > 0


def test_missing_query_set_has_no_term(setting):
    model, batch = setting
    encoder = EncoderConfig(clip=str(assets() / "clip"), query_length=2, scene_queries=False)
    lame = UniEmoModel.build(model.vocabulary, encoder, HeadConfig(hidden=8)).eval()
    assert set(terms_of(lame, batch)) == {"object", "emotion"}


def test_the_class_token_has_both_contrastive_losses(setting):
    model, batch = setting
    encoder = EncoderConfig(clip=str(assets() / "clip"), queries="class_token")
    control = UniEmoModel.build(model.vocabulary, encoder, HeadConfig(hidden=8)).eval()
    terms = terms_of(control, batch)
    assert set(terms) == {"scene", "object", "emotion"}
    terms["scene"].backward()
    assert control.encoder.visual.conv1.weight.grad.abs().sum() > 0


def test_joint_training_without_generation(capsys):
    """The control of what generation does: γ1·L_U alone, in stage 2's epochs."""
    before = str(trained("understanding") / "best.ckpt")
    off = ["--model.loss.gamma_condition", "0", "--model.loss.gamma_diffusion", "0", "--model.optimizer.lr_fusion", "0"]
    quiet = ["--generation_metrics.every_n_epochs", "0", "--attention_maps.every_n_epochs", "0"]
    assert main([*recipe("joint"), "--model.init_from", before, *off, *quiet, "--run_dir", "run"]) == 0
    logged = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  loss/"))
    assert set(logged) == {f"loss/{name}" for name in ("scene", "object", "emotion", "total")}
    scene, thing, emotion, total = (float(logged[f"loss/{name}"]) for name in ("scene", "object", "emotion", "total"))
    assert total == pytest.approx(0.3 * (0.25 * scene + 0.25 * thing + 0.5 * emotion), abs=1e-3)


def test_weighted_sums():
    terms = {name: torch.tensor(value) for name, value in (("scene", 1.0), ("object", 2.0), ("emotion", 3.0))}
    assert understanding_loss(terms, LossConfig()) == pytest.approx(0.25 * 1 + 0.25 * 2 + 0.5 * 3)
    terms |= {"condition": torch.tensor(5.0), "diffusion": torch.tensor(7.0)}
    assert joint_loss(terms, LossConfig()) == pytest.approx(0.3 * 2.25 + 0.3 * 5 + 0.4 * 7)


@pytest.mark.parametrize("change", [{"lambda_scene": -1.0}, {"tau": 0.0}])
def test_ranges(change):
    with pytest.raises(UniEmoError, match=next(iter(change))):
        LossConfig(**change)


def test_emotion_loss_is_float32_under_autocast(setting):
    model, batch = setting
    features = model.features(batch.images)
    logits = model.logits(features).bfloat16()
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            values = logits if enabled else logits.float()
            losses.append(understanding_terms(model, features, values, batch, LossConfig(), 0, 0, ())["emotion"])
    assert losses[1].dtype == torch.float32
    assert torch.equal(*losses)
