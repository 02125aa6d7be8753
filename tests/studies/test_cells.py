"""The packaged studies' cells, and what a cell depends on."""

import re
from functools import cache
from pathlib import Path

import pytest
from small_study import changed, content

from uniemo.callbacks.generation_metrics import GenerationMetrics
from uniemo.cli import main
from uniemo.cli.evaluate import published_networks
from uniemo.configurations import find_configuration
from uniemo.errors import UniEmoError
from uniemo.metrics.protocols import PROTOCOLS
from uniemo.studies import study_files
from uniemo.studies.cells import Setting, cell_of, cells_of, resolve, with_parents
from uniemo.studies.costs import OTHER, SECONDS, gpu_hours, kind, seconds
from uniemo.studies.study_files import known_studies

read_study = cache(study_files.read_study)
MINIATURE, QUICK, PAPER = Setting(), Setting(quick=True), Setting("paper", data=Path("/data"))
SETTINGS = pytest.mark.parametrize("setting", [MINIATURE, QUICK, PAPER], ids=["miniature", "quick", "paper"])
STUDIES = [name for name in known_studies() if read_study(name).columns]


def row_cell(name, row, column=None, setting=MINIATURE):
    study = read_study(name)
    return cell_of(study, study.row(row), study.column(column) if column else study.columns[0], 0, setting)


def args(cell, number=0):
    return " ".join(cell.commands[number].on_disk(Path("cells"), cell.hash))


@pytest.mark.parametrize("name", known_studies())
@SETTINGS
def test_every_command_is_complete(name, setting):
    cells = with_parents(cells_of(read_study(name), 0, setting))
    assert cells
    for cell in cells:
        for number, command in enumerate(cell.commands):
            assert "{" not in args(cell, number).replace("{}", "")
            assert all(find_configuration(file) for file in command.configurations())
            if setting.scale == "paper" and command.run == "fit" and not cell.parents:
                assert "--data.root /data" in args(cell, number)
        assert seconds(cell, {}) > 0


def test_cells_are_shared_between_studies():
    for shared in (
        [("table1", "UniEmo, stage 1 ViT-B/32", "EmoSet"), ("fig6", "Multi-stage ViT-B/32")],
        [("fig7", "8 ViT-B/32"), ("fig8", "Stage 1 ViT-B/32")],
        [("table5", "Cls + Object* + Scene* + L_cond"), ("fig8", "Stage 2 ViT-B/32")],
        [("table4", "UniEmo SD 1.5"), ("table6", "Filter by Emo-A and Sem-C"), ("table7", "20 to 80 %")],
        [("table8", "20 %"), ("table7", "20 to 80 %"), ("table1", "UniEmo ViT-B/32")],
    ):
        assert len({row_cell(*place).hash for place in shared}) == 1


@pytest.mark.parametrize("name", STUDIES)
def test_cells_of_one_table_differ(name):
    study = read_study(name)
    found = [cell_of(study, row, study.columns[0], 0, PAPER) for row in study.rows]
    hashes = [cell.hash for cell in found if cell is not None]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("table5", "Cls", '--model.fusion.tokens ["cls"]'),
        ("table5", "Cls + Object* + Scene*", "gamma_condition 0"),
        ("table5", "Cls + Object + Scene", "--model.fusion.correlation false"),
        ("table8", "30 %", "--data.proportion 0.3"),
        ("fig6", "No queries ViT-B/32", "--model.encoder.queries none"),
    ],
)
def test_ablations_say_what_they_leave_out(name, row, expected):
    assert expected in args(row_cell(name, row))
    assert "correlation" not in args(row_cell("table5", "Cls + Object* + Scene*"))
    kept = next(parent for parent in row_cell("table7", "50 to 80 %").parents if parent.name == "kept")
    assert "--criteria both --low 0.5 --high 0.8" in args(kept)


def ancestors(cell):
    return [one.name for one in with_parents([cell])]


@pytest.mark.parametrize("setting", [MINIATURE, PAPER], ids=["miniature", "paper"])
def test_pool_and_test_have_no_seed_in_common(setting):
    for seed in (0, 1):
        pool = next(one for one in with_parents(cells_of(read_study("table7"), seed, setting)) if one.name == "pool")
        given = dict(zip(pool.commands[0].args, pool.commands[0].args[1:], strict=False))
        assert int(given["--seed"]) == (seed + 1) * 1_000_000 > GenerationMetrics().seed + 1_000  # images of a test
        assert int(given["--num"]) < 1_000_000  # nor do the pools of two seeds meet


@pytest.mark.parametrize("name", ["table4", "table5", "table6", "table7", "table8"])
def test_generated_images_are_judged_apart_from_the_filter(name):
    study = read_study(name)
    for cell in cells_of(study, 0, MINIATURE):
        judge = next(parent for parent in cell.parents if parent.name == "judge")
        assert f"--generation_metrics.judge cells/{judge.hash}/fit/best.ckpt" in args(cell, -1)
        assert judge == next(one for one in with_parents(cells_of(study, 1, MINIATURE)) if one.name == "judge")
        assert all("judge" not in args(one) for one in with_parents([cell]) if one.name == "kept")
    assert "--model.encoder.queries none" in args(judge)
    assert judge.seed == 1000  # neither its pictures nor its weights are a row's
    assert ancestors(judge) == ["painted_for_the_judge", "judge"]


@pytest.mark.parametrize("setting", [MINIATURE, PAPER], ids=["miniature", "paper"])
def test_the_control_of_joint_training_differs_by_generation_alone(setting):
    joint, control = (
        args(row_cell("fig8", f"Stage {name} ViT-B/32", setting=setting)) for name in ("2", "1 trained on")
    )
    assert (
        control.split(" --run_dir")[0].replace(
            "--model.loss.gamma_condition 0 --model.loss.gamma_diffusion 0 --model.optimizer.lr_fusion 0 ", ""
        )
        == joint.split(" --run_dir")[0]
    )


@pytest.mark.parametrize("name", ["table4", "table5", "table6", "table7", "table8"])
def test_paper_scale_generates_and_evaluates_by_both_protocols(name):
    """Nothing is measured by a test; judge and networks are those that the protocols name, seeds those of tests."""
    for cell in cells_of(read_study(name), 0, PAPER):
        if cell.name == "real_images":
            continue
        given = {command.into: " ".join(command.on_disk(Path("cells"), cell.hash)) for command in cell.commands}
        assert "--seed 0 --num 1000" in given["generate"]
        assert "1000000" not in given["generate"]
        assert "test" not in given or "--generation_metrics.test_images 0" in given["test"]
        judge = next(one for one in cell.parents if one.name == "judge").hash
        head = next(one for one in cell.parents if one.name == "emo_a_head").hash
        images = f"--generated cells/{cell.hash}/generate --real /data/EmoSet"
        assert f"{images} --split test --real_size generated --protocol strict --networks published" in given["strict"]
        assert f"--classifier cells/{judge}/fit/best.ckpt" in given["strict"]
        assert f"{images} --split all --protocol emogen --networks published" in given["emogen"]
        assert f"--classifier cells/{head}/train-classifier/head.safetensors" in given["emogen"]
        for protocol in ("strict", "emogen"):
            assert given[protocol].endswith(f"--output cells/{cell.hash}/{protocol}/result.json")
            chosen = published_networks(given[protocol].split())
            assert {one.role for one in chosen} == {"fid", "lpips", "clip", "imagenet", "places"}
            assert {one.name for one in chosen if one.role == "fid"} == {PROTOCOLS[protocol].fid_network}
    assert not any(one.run == "evaluate" for cell in cells_of(read_study(name), 0, MINIATURE) for one in cell.commands)


def test_controls_of_queries_and_feedback():
    assert "--model.loss.lambda_scene 0 --model.loss.lambda_object 0" in args(
        row_cell("fig6", "Multi-stage without L_S and L_O ViT-B/32")
    )
    assert "--model.encoder.queries class_token" in args(row_cell("fig6", "Class token with L_S and L_O ViT-B/32"))
    ours, real = (row_cell("table6", name) for name in ("Filter by Emo-A and Sem-C", "As many real pictures"))
    (painted,) = (parent for parent in real.parents if parent.name == "real_pictures")
    (kept,) = (parent for parent in ours.parents if parent.name == "kept")
    index = f"cells/{painted.hash}/synthesize/index.jsonl"
    same = args(real).replace(index, f"cells/{kept.hash}/filter/kept.jsonl").replace(real.hash, ours.hash)
    assert same == args(ours)
    assert "pool" not in ancestors(real)


def test_the_learning_curve_keeps_its_pictures():
    for size, root in ((250, "--data.root miniature:emoset?train=250"), (2000, None)):  # the miniature's own number
        cell = row_cell("learning_curve", f"{size} feedback")
        trained = [one for one in with_parents([cell]) if one.name in ("stage1", "stage2", "stage3")]
        assert [root in args(one) if root else "--data.root" not in args(one) for one in trained] == [True] * 3
    for row in ("250 joint", "250 feedback"):  # only accuracy counts
        assert [one.run for one in row_cell("learning_curve", row, setting=PAPER).commands] == ["fit", "test"]
    few = row_cell("learning_curve", "250 queries", setting=PAPER)
    assert "--data.root /data/EmoSet --data.limit_train 250" in args(few)
    assert gpu_hours(few) == pytest.approx((250 * 15 * 3 + 17_716) * 0.0088 / 60 / 3600)


def test_paper_scale_takes_the_papers_recipes():
    text = args(row_cell("table1", "UniEmo ViT-B/16", "EmoSet", PAPER))
    assert text.startswith("fit --config paper/feedback.yaml --data.root /data/EmoSet --config paper/vit_b16.yaml")
    large = row_cell("table4", "UniEmo SD XL", setting=PAPER)
    assert "--config paper/vit_l14.yaml --config paper/sdxl.yaml" in args(large)
    stage1 = args(with_parents([large])[0])
    assert "vit_l14" in stage1
    assert "sdxl" not in stage1


def test_every_thing_of_the_paper_is_asked_for():
    (transfer,) = (cell for cell in cells_of(read_study("fig10"), 0, PAPER) if cell.name == "transfer")
    prompts = [command.args[command.args.index("--prompt") + 1] for command in transfer.commands]
    assert prompts == [f"a {{}} {name}" for name in ("bench", "book", "cup", "lamp", "room", "sofa", "street")]


# The small study.


def test_arguments(study):
    first, second = with_parents(cells_of(study, 3, QUICK))[1:]
    assert args(second) == (
        f"fit --init cells/{first.hash}/fit/best.ckpt --short --run_dir cells/{second.hash}/fit --seed_everything 3 "
        "--trainer.enable_progress_bar false"
    )
    assert args(second, 1).startswith(f"test --ckpt cells/{second.hash}/fit/best.ckpt --accuracy 0.75")
    assert (second.title, first.title) == ("second accuracy=0.75 seed 3", "first seed 3")
    assert len(cells_of(study, 0, PAPER)) == 3


def hash_of(study, setting=MINIATURE, seed=0, **parameters):
    return resolve(study, "second", {"accuracy": "0.5", **parameters}, seed, setting).hash


def test_the_hash_follows_what_the_result_depends_on(written, tmp_path, monkeypatch):
    before = hash_of(written(content()))
    assert before == "5bfc134add4f667d"  # so that work folders of before go on
    assert hash_of(written(content(), "another_name")) == before
    assert hash_of(written(content()), accuracy="0.6") != before
    assert hash_of(written(content()), seed=1) != before
    assert hash_of(written(content()), QUICK) != before
    assert hash_of(written(content()), PAPER) == before  # nothing of it differs at paper scale
    assert hash_of(written(changed("cells.first.steps.0.args", "--another"))) != before  # of the parent
    monkeypatch.chdir(tmp_path)
    study = written(changed("cells.first.steps.0.args", "--config own.yaml"))
    Path("own.yaml").write_text("a: 1\n")
    before = hash_of(study)
    Path("own.yaml").write_text("# why\na:   1\n")
    assert hash_of(study) == before
    Path("own.yaml").write_text("a: 2\n")
    assert hash_of(study) != before


def test_choices_stand_for_arguments_by_scale(study):
    for setting, expected in ((MINIATURE, "mini"), (PAPER, "big")):
        cell = resolve(study, "plain", {"accuracy": "1", "tower": "big"}, 0, setting)
        assert args(cell).startswith(f"fit --tower {expected} --run_dir")
        assert dict(cell.choices) == {"accuracy": "1", "tower": "big"}
    small = resolve(study, "plain", {"accuracy": "1"}, 0, MINIATURE)
    assert dict(small.choices) == {"accuracy": "1"}  # small stands for nothing


def test_a_fixed_seed_is_one_cell_for_all(written):
    study = written(changed("cells.first.seed", 7))
    firsts = {with_parents([resolve(study, "second", {"accuracy": "1"}, seed, MINIATURE)])[0] for seed in (0, 1)}
    assert len(firsts) == 1
    assert "--seed_everything 7" in args(firsts.pop())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("rows.2.with", {}, "cell plain must give {accuracy} a value"),
        ("rows.2.with", {"accuracy": 1, "tower": "huge"}, "tower must be one of small, big; got 'huge'"),
        ("cells.first.steps.0.args", "--config nothing.yaml", "'nothing.yaml' is neither"),
        ("cells.first.steps.0.args", "{cell:nothing}", "a cell must be one of plain, first, second; got 'nothing'"),
        ("cells.first.steps.0.args", "{data}", "--scale paper needs the datasets"),
    ],
)
def test_mistakes_in_cells_are_named(written, path, value, said):
    study = written(changed(path, value))
    with pytest.raises(UniEmoError) as error:
        cells_of(study, 0, MINIATURE)
    assert said in str(error.value)


# What cells cost.


def test_costs_are_known_for_every_command():
    for name in STUDIES:
        for cell in with_parents(cells_of(read_study(name), 0, MINIATURE)):
            assert {kind(command, cell) for command in cell.commands} <= set(SECONDS)


def test_earlier_times_are_expected_again(study):
    cell = resolve(study, "plain", {"accuracy": "1"}, 0, MINIATURE)
    assert seconds(cell, {}) == OTHER[0] + SECONDS["test"][0]
    result = {"name": "plain", "scale": "miniature", "quick": False, "choices": {}}
    others = {
        "a": {**result, "seconds": 10.0},
        "b": {**result, "seconds": 20.0},
        "c": {**result, "quick": True, "seconds": 1.0},
    }
    assert seconds(cell, others) == 15.0
    assert seconds(cell, {**others, cell.hash: {**result, "seconds": 3.0}}) == 3.0


def test_gpu_hours_are_the_stated_arithmetic():
    cell = row_cell("fig6", "Multi-stage ViT-L/14", setting=PAPER)
    assert gpu_hours(cell) == pytest.approx((94_481 * 15 * 3 + 17_716) * 0.162 / 60 / 3600)
    joint = row_cell("table5", "Cls", setting=PAPER)
    expected = 94_481 * 10 * (2 * 0.70 + 1.1 + 3 * 0.162) + 8_000 * 50 * 2 * 0.70 + 17_716 * 0.162
    expected += 2 * 8_000 * 0.2  # evaluated by both protocols
    assert gpu_hours(joint) == pytest.approx(expected / 60 / 3600)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@SETTINGS
def test_every_training_is_understood_by_the_command_line(setting, capsys):
    """A minute; run on demand."""
    known = set()
    for name in known_studies():
        for cell in with_parents(cells_of(read_study(name), 0, setting)):
            fits = [number for number, command in enumerate(cell.commands) if command.run == "fit"]
            known |= {re.sub(r"cells/\w+", "cells/x", args(cell, number)) for number in fits}
    for given in sorted(known):
        code = main([*given.split(" "), "--print_config"])
        assert code == 0, (given, capsys.readouterr().err)
        capsys.readouterr()
