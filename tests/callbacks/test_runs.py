"""What the callbacks leave in the run folders of tiny runs."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny_runs import assets, recipe, trained
from uniemo import UniEmoError
from uniemo.callbacks import ExplicitFeedback, GenerationMetrics
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.data import EmoSet
from uniemo.data.generated import read_index
from uniemo.metrics.feature_cache import view_of
from uniemo.metrics.judge import Judge
from uniemo.taxonomy import MIKELS_8

PAIR = ("000000", "000001")
METRICS = ("FID[clip]", "LPIPS[clip]", "Emo-A[clip]", "Sem-C[clip]", "Sem-D[clip]")


@pytest.fixture(scope="module")
def events():
    accumulator = EventAccumulator(str(trained("joint")))
    accumulator.Reload()
    return accumulator.Tags()


def test_losses_and_metrics_reach_tensorboard(events):
    wanted = {f"loss/{name}" for name in ("scene", "object", "emotion", "condition", "diffusion", "total")}
    wanted |= {f"val/{name}" for name in METRICS} | {"val/accuracy", "val/coverage/object", "val/coverage/scene"}
    assert wanted <= set(events["scalars"])
    assert {"val_generated", "val_attention"} <= set(events["images"])


def test_images_are_in_the_run_folder():
    names = {path.name for path in (trained("joint") / "images").iterdir()}
    assert {"val_generated_epoch000.png", "val_attention_epoch000.png"} <= names
    for name in names:
        assert Image.open(trained("joint") / "images" / name).mode == "RGB"


def test_test_writes_metrics_of_generated_and_real_images(tmp_path, capsys):
    assert main(["test", "--ckpt", str(trained("joint") / "best.ckpt"), "--run_dir", "run"]) == 0
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    assert {f"test/{name}" for name in METRICS} <= set(metrics)
    assert {f"test/real/{name}" for name in METRICS if not name.startswith("FID")} <= set(metrics)
    assert "test/Emo-A[clip]/awe" in metrics
    assert "test/accuracy/awe" in metrics
    both = json.loads((tmp_path / "run/test_generation.json").read_text())
    assert set(both["generated"]) > set(both["real"])
    assert both["space"] == "mixture"
    distances = both["nearest_training_image"], both["between_training_images"]
    assert metrics["test/Train distance"] == pytest.approx(distances[0] / distances[1])
    table = capsys.readouterr().out
    assert "end of test" in table
    assert "test/FID[clip]" in table


def test_a_judge_apart_from_the_filter(tmp_path, capsys):
    """Emo-A is what another checkpoint answers; each answer is kept."""
    judge = trained("understanding") / "best.ckpt"
    args = ["test", "--ckpt", str(trained("joint") / "best.ckpt"), "--generation_metrics.test_images", "2"]
    assert main([*args, "--run_dir", "run", "--generation_metrics.judge", str(judge)]) == 0
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    (name,) = (key for key in metrics if key.startswith("test/Emo-A[") and key.endswith("]"))
    assert name.startswith("test/Emo-A[judge-")
    assert {f"test/{name}" for name in METRICS} - set(metrics) == {"test/Emo-A[clip]"}
    rows = pq.read_table(tmp_path / "run/test_generated.parquet").to_pylist()
    assert sorted(row["file"] for row in rows) == sorted(f"{row['label']}/{n}" for row in rows[::2] for n in PAIR)
    assert sum(row["label"] == row["answer"] for row in rows) / 16 == pytest.approx(metrics[name])
    real = metrics[name.replace("test/", "test/real/")]
    images = EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=32).evaluation_loader("test", 2)
    expected = Judge(judge, MIKELS_8)
    hits = [expected(view_of(batch, "target"))["probabilities"].argmax(1) == batch.emotion for batch in images]
    assert real == pytest.approx(float(torch.cat(hits).float().mean()))
    assert main([*args, "--run_dir", "other", "--generation_metrics.judge", "nothing.ckpt"]) == 2
    assert "checkpoint must be an existing file; got nothing.ckpt" in capsys.readouterr().err
    assert not (tmp_path / "other/test.json").exists()
    with pytest.raises(UniEmoError, match="judge must know the data's emotions, joy; "):
        Judge(judge, ["joy"])


def test_understanding_has_nothing_generated():
    names = {path.name for path in (trained("understanding") / "images").iterdir()}
    assert names - {"test_attention", "test_attention.png"} == {"val_attention_epoch000.png"}  # others may test it


def test_feedback_from_stage_2_starts_at_once():
    folder = trained("feedback")
    rows = read_index(folder / "generated/index.jsonl")
    assert {row["space"] for row in rows} == {"mixture"}
    kept = read_index(folder / "generated/kept.jsonl")
    assert len(rows) == 5 * 8
    assert 0 < len(kept) < len(rows)
    assert all(0 <= row["emo_a"] <= 1 for row in rows)
    assert (folder / "images/feedback_generated.png").is_file()


def test_feedback_from_a_stage_2_without_mixture(tmp_path):
    """A checkpoint of an earlier version has none: the emotion space is built before images are generated."""
    content, _ = read_checkpoint(trained("joint") / "best.ckpt")
    state = content["state_dict"]
    content["state_dict"] = {name: value for name, value in state.items() if "space.mixture_" not in name}
    content["uniemo"]["model"]["space"] = {"kind": "bank", "noise": 0.1, "bank_size": 256}
    torch.save(content, tmp_path / "old.ckpt")
    args = [*recipe("feedback"), "--model.init_from", "old.ckpt", "--explicit_feedback.num_per_emotion", "2"]
    args += ["--generation_metrics.every_n_epochs", "0", "--trainer.limit_train_batches", "1", "--run_dir", "run"]
    assert main([*args, "--explicit_feedback.low", "0", "--explicit_feedback.high", "1"]) == 0
    assert {row["space"] for row in read_index(tmp_path / "run/generated")} == {"mixture"}
    new, _ = read_checkpoint(tmp_path / "run/best.ckpt")
    assert len(new["state_dict"]["model.space.mixture_emotion"]) >= 8


def test_feedback_alone_trains_first(tmp_path, capsys):
    args = [*recipe("feedback"), "--explicit_feedback.start_epoch", "1", "--generation_metrics.every_n_epochs", "0"]
    assert main([*args, "--trainer.max_epochs", "2", "--run_dir", "run"]) == 0
    out = capsys.readouterr().out
    assert out.count("explicit feedback: kept") == 1
    kept = len(read_index(tmp_path / "run/generated/kept.jsonl"))
    steps = 3 + -(-(48 + min(kept, 12)) // 16)  # 48 real images; a fifth of the mixed set is 12 generated ones
    assert f"2 epochs, {steps} steps" in out


def test_feedback_with_given_images(tmp_path, capsys):
    given = trained("feedback") / "generated/kept.jsonl"
    args = [*recipe("feedback"), "--model.init_from", str(trained("joint") / "best.ckpt"), "--run_dir", "run"]
    assert main([*args, "--data.generated", str(given), "--generation_metrics.every_n_epochs", "0"]) == 0
    assert "explicit feedback" not in capsys.readouterr().out
    assert not (tmp_path / "run/generated").exists()


def test_resumed_feedback_keeps_its_images(capsys):
    folder = trained("feedback")
    index = (folder / "generated/index.jsonl").read_bytes()
    args = [*recipe("feedback"), "--run_dir", str(folder), "--resume", "--trainer.max_epochs", "1"]
    assert main(args) == 0
    assert (folder / "generated/index.jsonl").read_bytes() == index
    assert "explicit feedback: kept" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GenerationMetrics(val_images=1), "val_images"),
        (lambda: GenerationMetrics(every_n_epochs=-1), "every_n_epochs"),
        (lambda: ExplicitFeedback(num_per_emotion=-1), "num_per_emotion"),
        (lambda: ExplicitFeedback(low=0.8, high=0.2), "low"),
    ],
)
def test_ranges(make, message):
    with pytest.raises(UniEmoError, match=message):
        make()
