"""Counted steps beside real ones, and the command."""

import pytest
import torch

from tests.tiny_runs import assets, recipe, run_folder  # noqa: F401 - the fixture is used by name
from uniemo.cli import main
from uniemo.data.batch import EmotionBatch
from uniemo.estimate.cards import CARDS, Amounts, Card, Count, Estimate
from uniemo.estimate.counting import LiveBytes
from uniemo.estimate.steps import CONTEXT, GIB, SHARE, FakeModule, StepSettings
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.modules import JointModule
from uniemo.vocabulary import Vocabulary

NAMES = Vocabulary(("awe", "fear", "anger"), ("park", "forest"), ("eagle", "skull"))


def joint():
    encoder = EncoderConfig(clip=f"random:{assets() / 'clip'}", query_length=2)
    diffusion = DiffusionConfig(path=f"random:{assets() / 'diffusion'}")
    return JointModule(encoder, HeadConfig(hidden=16), diffusion=diffusion)


def test_a_counted_step_is_a_real_one():
    """Weights on shapes alone are those of the same step with numbers; the highest moment is near (12 % more here)."""
    found = FakeModule(joint(), StepSettings(32, "32-true"), NAMES).training_step(4)
    module = joint()
    module.build(NAMES)
    module.model.train()
    live = LiveBytes()
    live.add([*module.model.parameters(), *module.model.buffers()])
    weights = live.now
    with live:
        optimizer = module.optimizer.build(module.parameter_groups())
        batch = EmotionBatch(
            images=torch.rand(4, 3, 32, 32),
            targets=torch.rand(4, 3, 32, 32),
            emotion=torch.tensor([0, 1, 2, 0]),
            scene=torch.tensor([0, 1, 0, 1]),
            objects=torch.ones(4, 2, dtype=torch.bool),
            generated=torch.zeros(4, dtype=torch.bool),
            sample_id=torch.arange(4),
            names=[""] * 4,
        )
        for _ in range(2):
            live.peak = live.now
            module.losses(batch)[0].backward()
            optimizer.step()
            optimizer.zero_grad()
    assert found.weights * GIB == weights
    assert (found.memory - CONTEXT) / (1 + SHARE) * GIB == pytest.approx(live.peak, rel=0.15)
    assert found.work > 0


def test_an_images_work_grows_with_its_steps_and_guidance():
    fake = FakeModule(joint(), StepSettings(32, "32-true"), NAMES)
    works = [fake.image(2, guidance, steps).work for guidance, steps in ((0, 1), (0, 2), (0, 3), (5, 3))]
    assert works[1] - works[0] == pytest.approx(works[2] - works[1])
    assert works[3] > 1.5 * works[2]


def test_batches_and_hours_of_a_card():
    """10 GiB for one image and 4 for each further one; 3e12 operations for an image."""
    counts = Count(10.0, 5.0, 4e12), Count(14.0, 5.0, 7e12)
    found = Estimate(Amounts(8, 1000, 60), "bf16-mixed", *counts, Count(9.0, 5.0, 5e12))
    card = Card("", 24, 60.0, 30.0)  # a sixth of the peak: 1e13 operations a second
    assert found.memory(4) == 22
    assert [found.largest_batch(Card("", size, 1, 1)) for size in (9, 10, 24, 99)] == [0, 1, 4, 8]
    assert found.training_hours(card) == pytest.approx(1000 * 0.3 / 3600)
    assert found.generation_hours(card) == pytest.approx(60 * 0.5 / 3600)


def test_by_command(tmp_path, capsys):
    """Neither data nor weights are looked at, and nothing is written."""
    args = [*recipe("joint"), "--data.root", "nowhere", "--trainer.max_epochs", "2", "--estimate"]
    assert main(args) == 0
    text = capsys.readouterr().out
    assert "a training step of 16:" in text
    assert f"{2 * 94481:,} trained" in text
    assert "48 generated" in text  # 8 emotions x 2 images in each of two validations and a test
    assert all(card.name in text for card in CARDS)
    assert "not measured" in text
    assert not list(tmp_path.iterdir())
