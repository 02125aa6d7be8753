"""Models on data with other emotions and without attributes: test, predict, and all stages of training."""

import json

import lightning as L
import pytest
import torch

from tests.other_trees import painted
from tests.refusals import refused
from tests.tiny_runs import assets, recipe, trained
from uniemo import UniEmoError
from uniemo.checkpoint import load_model, read_checkpoint
from uniemo.cli import main
from uniemo.data import FI, EmotionROI
from uniemo.metrics.answers import read_answers
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.modules import FeedbackModule, UnderstandingModule
from uniemo.taxonomy import MIKELS_8


def best(stage="understanding"):
    return str(trained(stage) / "best.ckpt")


def on(dataset, *args):
    return ["--data", dataset, "--data.root", painted(dataset), *args]


def parts():
    return EncoderConfig(clip=str(assets() / "clip"), query_length=2), HeadConfig(hidden=16)


def lines(file):
    return [json.loads(line) for line in open(file, encoding="utf-8")]


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("FI", None),
        ("EmotionROI", "eight to six (our convention): anger → anger"),
        ("TwitterII", "amusement, awe, contentment, excitement → positive"),
    ],
)
def test_a_model_of_emoset_tests_on(tmp_path, capsys, dataset, said):
    assert main(["test", "--ckpt", best(), *on(dataset), "--run_dir", "run"]) == 0
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    confusion = json.loads((tmp_path / "run/test_confusion.json").read_text())
    counts = torch.tensor(confusion["counts"], dtype=torch.float64)
    recall = counts.diagonal() / counts.sum(dim=1)
    files, right = read_answers(tmp_path / "run/test_answers.parquet")
    assert len(set(files)) == len(files) == counts.sum()
    assert sum(right) == counts.diagonal().sum()
    assert metrics["test/accuracy"] == pytest.approx(counts.diagonal().sum() / counts.sum())
    assert metrics["test/balanced_accuracy"] == pytest.approx(recall.nanmean())
    for name, value in zip(confusion["emotions"], recall.tolist(), strict=True):
        assert metrics[f"test/accuracy/{name}"] == pytest.approx(value)
    coverage = {f"test/coverage/{name}" for name in ("object", "scene", "area")}
    assert coverage <= set(metrics) or dataset != "EmotionROI"  # the only one with masks
    out = capsys.readouterr().out
    if said is None:
        assert "label_map" not in metrics
    else:
        assert said in out
        assert said in metrics["label_map"]
        assert "→" in confusion["label_map"]


class Backwards(FI):
    """FI with its classes in another order."""

    @property
    def vocabulary(self):
        names = super().vocabulary
        return type(names)(names.emotions[::-1])

    def records(self, split):
        records = super().records(split)
        if split not in getattr(self, "_turned", set()):
            records.emotion[:] = 7 - records.emotion
            self._turned = {split} | getattr(self, "_turned", set())
        return records


def test_class_order_does_not_matter(tmp_path, capsys):
    args = ["--data.root", painted("FI")]
    assert main(["test", "--ckpt", best(), "--data", "FI", *args, "--run_dir", "a"]) == 0
    backwards = "tests.modules.test_label_spaces.Backwards"
    assert main(["test", "--ckpt", best(), "--data", backwards, *args, "--run_dir", "b"]) == 0
    first, second = (json.loads((tmp_path / run / "test.json").read_text()) for run in "ab")
    assert first == second
    assert "matched by name" in capsys.readouterr().out
    table = [json.loads((tmp_path / run / "test_confusion.json").read_text()) for run in "ab"]
    assert table[0]["emotions"] == table[1]["emotions"][::-1]
    turned = [row[::-1] for row in table[1]["counts"][::-1]]
    assert table[0]["counts"] == turned


def test_predictions_in_both_label_spaces(tmp_path):
    assert main(["predict", "--ckpt", best(), *on("EmotionROI"), "--run_dir", "run"]) == 0
    for row in lines(tmp_path / "run/predictions.jsonl"):
        assert set(row["probabilities"]) == set(MIKELS_8)
        mapped = row["mapped"]["probabilities"]
        happy = sum(row["probabilities"][name] for name in ("amusement", "contentment", "excitement"))
        assert mapped["joy"] == pytest.approx(happy, abs=1e-5)
        assert row["mapped"]["emotion"] == max(mapped, key=mapped.get)
    assert main(["predict", "--ckpt", best(), *on("FI"), "--run_dir", "fi"]) == 0
    assert not any("mapped" in row for row in lines(tmp_path / "fi/predictions.jsonl"))


def test_results_on_other_data_have_a_folder_of_their_own():
    before = sorted(path.name for path in trained("understanding").iterdir())
    assert main(["test", "--ckpt", best(), *on("TwitterII")]) == 0
    folder = trained("understanding") / "TwitterII"
    assert (folder / "test.json").is_file()
    after = {path.name for path in trained("understanding").iterdir()}
    assert after - set(before) <= {"TwitterII"}


# Generation on other data.


def test_generation_metrics_need_the_same_emotions(tmp_path, capsys):
    assert main(["test", "--ckpt", best("joint"), *on("EmotionROI"), "--run_dir", "run"]) == 0
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    assert not any("FID" in name for name in metrics)
    out = capsys.readouterr().out
    assert out.count("generation metrics are left out") == 1


def test_generation_metrics_on_fi(tmp_path):
    assert main(["test", "--ckpt", best("joint"), *on("FI"), "--run_dir", "run"]) == 0
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    assert {f"test/{name}[clip]" for name in ("FID", "Emo-A", "Sem-C")} <= set(metrics)  # names are EmoSet's


# Training on data without attributes.


def losses(capsys):
    return {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  loss/")}


def test_stage_1_on_two_classes(tmp_path, capsys):
    assert main([*recipe("understanding"), *on("TwitterII"), "--run_dir", "run"]) == 0
    assert losses(capsys) == {"loss/emotion", "loss/total"}
    content, info = read_checkpoint(tmp_path / "run/best.ckpt")
    assert info.vocabulary.to_dict() == {"emotions": ["positive", "negative"], "scenes": [], "objects": []}
    assert len(content["state_dict"]["model.head.fc1.weight"]) == 2
    assert main(["test", "--ckpt", "run/best.ckpt"]) == 0
    capsys.readouterr()
    # two cannot become eight
    assert "cannot be mapped" in refused(capsys, "test", "--ckpt", "run/best.ckpt", *on("FI"), "--run_dir", "none")
    assert not (tmp_path / "none").exists()
    assert main(["predict", "--ckpt", "run/best.ckpt", *on("FI"), "--run_dir", "two"]) == 0
    assert set(lines(tmp_path / "two/predictions.jsonl")[0]["probabilities"]) == {"positive", "negative"}


def test_everything_that_learns_has_a_gradient_without_attributes():
    data = EmotionROI(painted("EmotionROI"), image_size=32, diffusion_size=None, batch_size=8)
    module = UnderstandingModule(*parts())
    module.prepare(data, initialise=False)
    total, terms = module.losses(next(iter(data.train_dataloader())))
    assert set(terms) == {"emotion"}
    torch.testing.assert_close(total, 0.5 * terms["emotion"])  # the configured weight, whatever is missing
    total.backward()
    # with a parameter without gradient DistributedDataParallel would wait for it
    assert [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None] == []


def test_stage_1_on_fi_from_emoset_keeps_the_head(capsys):
    data = Backwards(painted("FI"), image_size=32, diffusion_size=None)
    module = UnderstandingModule(*parts(), init_from=best())
    module.prepare(data, initialise=True)
    assert "anew" not in capsys.readouterr().out
    before, _ = load_model(best())
    images = torch.rand(3, 3, 32, 32)
    assert module.vocabulary.emotions == before.vocabulary.emotions[::-1]
    torch.testing.assert_close(module.eval().classify(images), before.classify(images).flip(1))


def test_stage_2_without_attributes_has_no_correlation(tmp_path, capsys):
    assert main([*recipe("joint"), *on("FI"), "--run_dir", "run", "--generation_metrics.every_n_epochs", "0"]) == 0
    assert losses(capsys) == {f"loss/{name}" for name in ("condition", "diffusion", "emotion", "total")}
    model, _ = load_model(tmp_path / "run/best.ckpt", generation=True)
    features = model.features(torch.rand(2, 3, 32, 32))
    assert model.correlation(features, torch.tensor([0, 1])) == (None, None)  # fusion takes them for 1
    assert model.generate({0: 1.0}, [0], steps=1).shape == (1, 3, 32, 32)


def test_stage_3_on_fi_keeps_what_the_checkpoint_knows(tmp_path, capsys):
    args = [*recipe("feedback"), *on("FI"), "--model.init_from", best("joint"), "--run_dir", "run"]
    assert main([*args, "--generation_metrics.every_n_epochs", "0", "--explicit_feedback.num_per_emotion", "3"]) == 0
    out = capsys.readouterr().out
    assert "explicit feedback: kept" in out  # Sem-C looks for EmoSet's scenes and objects
    content, info = read_checkpoint(tmp_path / "run/best.ckpt")
    before, known = read_checkpoint(best("joint"))
    assert info.vocabulary == known.vocabulary
    for name in ("bank.scene_table", "bank.object_text", "scene_projection.weight"):  # nothing trains these
        assert torch.equal(content["state_dict"][f"model.{name}"], before["state_dict"][f"model.{name}"])
    args = [*recipe("feedback"), *on("FI"), "--run_dir", "run", "--resume", "--generation_metrics.every_n_epochs", "0"]
    assert main([*args, "--trainer.max_epochs", "2"]) == 0


def test_a_later_stage_on_six_emotions(capsys):
    data = EmotionROI(painted("EmotionROI"), image_size=32, diffusion_size=32)
    diffusion = DiffusionConfig(path=str(assets() / "diffusion"))
    module = FeedbackModule(*parts(), diffusion=diffusion, init_from=best("joint"))
    module.prepare(data, initialise=True)
    assert "emotion head and condition loss start anew" in capsys.readouterr().out
    assert module.model.space.mean_cls.shape[0] == 6


def test_clarity_needs_names(capsys):
    args = [*recipe("feedback"), *on("FI"), "--explicit_feedback.start_epoch", "1", "--run_dir", "run"]
    assert "explicit_feedback.criteria emo_a" in refused(capsys, *args)


# The command line.


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data", "FI"], "add --data.root"),
        (["--data", "EmotionRoj", "--data.root", "x"], "did you mean EmotionROI"),
        (["--data", "uniemo.data.EmotionRoj", "--data.root", "x"], "did you mean uniemo.data.EmotionROI"),
        (["--data", "FI", "--data.root", "nowhere"], "nowhere"),
        (["--trainer.devices", "1000", "--trainer.accelerator", "cpu"], "trainer.devices"),
    ],
)
def test_bad_arguments(capsys, args, said):
    assert said in refused(capsys, "test", "--ckpt", best(), *args)


def test_stored_arguments_of_another_dataset_are_left_behind(tmp_path):
    stored = ["--data", "TwitterI", "--data.root", painted("TwitterI"), "--data.agreement", "three", "--data.fold", "2"]
    assert main([*recipe("understanding"), *stored, "--run_dir", "run"]) == 0
    assert main(["test", "--ckpt", "run/best.ckpt", *on("twitterii"), "--run_dir", "other"]) == 0
    config = tmp_path / "overlay.yaml"
    config.write_text(f"data: {{class_path: uniemo.data.TwitterII, init_args: {{root: {painted('TwitterII')}}}}}")
    assert main(["test", "--ckpt", "run/best.ckpt", "--config", str(config), "--run_dir", "again"]) == 0
    first, second = (json.loads((tmp_path / name / "test.json").read_text()) for name in ("other", "again"))
    assert first == second


def test_training_does_not_go_on_with_other_emotions(capsys):
    args = ["fit", "--ckpt", str(trained("understanding") / "last.ckpt"), *on("EmotionROI"), "--run_dir", "run"]
    assert "--model.init_from" in refused(capsys, *args)


def test_python_keeps_the_checkpoints_names():
    data = EmotionROI(painted("EmotionROI"), image_size=32, diffusion_size=None)
    module = UnderstandingModule.load_from_checkpoint(best())
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, **quiet)
    first = trainer.test(module, data, verbose=False)[0]
    assert len(module.vocabulary.emotions) == 8
    fresh = UnderstandingModule(module.config.encoder, module.config.head)  # built for the data, then given its weights
    assert trainer.test(fresh, data, ckpt_path=best(), verbose=False)[0] == first
    with pytest.raises(UniEmoError, match="init_from"):
        trainer.fit(module, data)
