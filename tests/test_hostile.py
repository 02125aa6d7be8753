"""A corpus of hostile files, opened by every command: nothing runs or is written elsewhere, no address is asked."""

import contextlib
import json
import pickle
import shutil
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from malicious import Malicious
from PIL import Image
from safetensors.torch import save_file
from scripted import save_archive

from tests.refusals import one_line_error
from tests.tiny_runs import assets, recipe, trained
from tests.watching import watched
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import COMMANDS, main
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.models.clip_files import read_clip_file

EVIL = "from pathlib import Path\nPath({!r}).touch()\nclass Evil:\n    def __init__(self, *a, **k): pass\n"
POPEN = {"class_path": "uniemo.launch.subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}
CLASS = {"class_path": "evil.Evil", "init_args": {}, "dict_kwargs": {"x": {"class_path": "evil.Evil"}}}
URL = "http://hostile.invalid/x.yaml"
TAGS = ("!!python/object/apply:os.system [touch ran]", "model: !!python/name:os.system x")


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Work in ``work``; a module that leaves a trace lies on Python's path, and the hub may be asked."""
    trace = tmp_path / "ran"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "evil.py").write_text(EVIL.format(str(trace)))
    (tmp_path / "work").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    Path("gen").mkdir()
    rows = [{"file": f"{number}.png", "emotion": name, "seed": 0} for number, name in enumerate(("awe", "fear") * 2)]
    Path("gen/index.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for row in rows:
        Image.new("RGB", (32, 32)).save(Path("gen") / row["file"])
    yield tmp_path
    sys.modules.pop("evil", None)


def opened(machine, capsys, *args, code=2):
    """Run a command, see that it did nothing but its work, and return its one line."""
    scratch = Path(tempfile.gettempdir()) / "tmp"  # of the standard library's temporary folders
    with watched(machine / "work", assets() / "cache", scratch) as seen:
        assert main(list(args)) == code, capsys.readouterr().err
    assert not seen
    assert "evil" not in sys.modules
    assert sorted(path.name for path in machine.iterdir()) == ["lib", "work"]
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == (code == 2)
    assert "Traceback" not in error
    return lines[0] if lines else ""


def checkpoint(change, stage="understanding", name="best.ckpt"):
    content, _ = read_checkpoint(trained(stage) / name)
    change(content)
    torch.save(content, "x.ckpt")


def configured(change, stage="understanding"):
    def edit(content):
        config = yaml.safe_load(content["uniemo"]["config"])
        change(config)
        content["uniemo"]["config"] = yaml.safe_dump(config)

    checkpoint(edit, stage)


def model(**values):
    return lambda config: config["model"]["init_args"].update(values)


def data(**values):
    return lambda config: config["data"].update(values)


def encoder(clip):
    return lambda config: config["model"]["init_args"]["encoder"].update(clip=clip)


REFUSED = {
    "class of another module": lambda config: config["model"].update(CLASS),
    "module reached through uniemo": lambda config: config["model"].update(POPEN),
    "function": lambda config: config["model"].update(class_path="uniemo.cli.main"),
    "os.system": data(class_path="uniemo.cli.os.system", init_args={"command": "touch ran"}),
    "class in data": data(init_args={"root": [CLASS]}),
    "class in place of a section": model(encoder=CLASS),
    "name in place of a section": model(encoder="evil.Evil"),
    "address in place of a section": model(optimizer=URL),
    "Popen as optimizer": model(optimizer=POPEN),
    "stranger's CLIP": encoder("stranger/clip"),
    "random stranger": encoder("random:stranger/clip"),
    "address as CLIP": encoder(URL),
    "stranger's metrics": lambda config: config["generation_metrics"].update(clip="stranger/clip"),
    "address as data": data(init_args={"root": URL}),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_hostile_configurations(machine, capsys, change):
    configured(change)
    opened(machine, capsys, "test", "--ckpt", "x.ckpt")


SCORED = {
    "filter": ("--generated", "gen", "--out", "out"),
    "evaluate": ("--generated", "gen", "--output", "out.json", "--networks", "miniature"),
}


@pytest.mark.parametrize("command", ["fit", "validate", "predict", "evaluate", "filter"])
@pytest.mark.parametrize("change", [data(**POPEN), data(**CLASS)])
def test_every_command_that_takes_a_configuration(machine, capsys, command, change):
    configured(change)
    opened(machine, capsys, command, *SCORED.get(command, ()), "--ckpt", "x.ckpt")


def test_machines_loggers_and_folders_are_left_out(machine, capsys):
    def change(config):
        config["trainer"].update(
            {name: CLASS for name in ("logger", "strategy", "profiler", "plugins")},
            **{"callbacks": [POPEN], "default_root_dir": "../elsewhere", "num_nodes": 7, "devices": 7},
        )
        config.update(run_dir="../elsewhere", overwrite=True, evil=CLASS)
        config["model"]["dict_kwargs"] = {"x": CLASS}

    configured(change)
    opened(machine, capsys, "test", "--ckpt", "x.ckpt", "--run_dir", "run", code=0)


GENERATE = ("generate", "--ckpt", "x.ckpt", "--emotion", "all", "--num", "1", "--out", "out")


@pytest.mark.parametrize("args", [GENERATE, ("convert", "--to", "diffusers", "x.ckpt", "--output", "out")])
@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("diffusion", "family", "uniemo.launch.subprocess.Popen"),
        ("fusion", "implementation", "evil.Evil"),
        ("diffusion", "path", "stranger/model"),
        ("diffusion", "lora_rank", "hub"),
    ],
)
def test_hostile_descriptions_of_a_model(machine, capsys, args, part, key, value):
    checkpoint(lambda content: content["uniemo"]["model"][part].update({key: value}), "joint")
    opened(machine, capsys, *args)


@pytest.mark.parametrize("name", ["../../evil", "/tmp/uniemo-evil", "\x1b]0;evil\x07", ".hidden", ""])
def test_names_that_lead_elsewhere(machine, capsys, name):
    checkpoint(lambda content: content["uniemo"]["vocabulary"]["emotions"].__setitem__(0, name), "joint")
    opened(machine, capsys, *GENERATE)
    opened(machine, capsys, "classify", "--ckpt", "x.ckpt", "gen")


@pytest.mark.parametrize("path", ["{run}/../../victim", "{run}/victim", "http://hostile.invalid/best.ckpt"])
def test_files_that_a_resumed_run_would_remove(machine, capsys, path):
    run = Path("run").resolve()

    def change(content):
        for state in content["callbacks"].values():
            if "best_model_path" in state:
                state.update(best_model_path=path.format(run=run), dirpath=str(run))

    checkpoint(change, name="last.ckpt")
    assert "own run" in opened(
        machine, capsys, "fit", "--ckpt", "x.ckpt", "--run_dir", "run", "--trainer.max_epochs", "2"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(loops={}),
        lambda content: content.update(optimizer_states=[{"a": 1}]),
        lambda content: content.update(lr_schedulers=[3]),
        lambda content: content["loops"].update(fit_loop="x"),
        lambda content: content.pop("optimizer_states"),
        lambda content: content.update(global_step=10**30),
        lambda content: content.update(epoch=-1),
        lambda content: content["uniemo"].update(epoch_step=10**30),
        lambda content: content["loops"]["fit_loop"]["epoch_progress"]["current"].update(processed=10**30),
        lambda content: content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"].update(ready=-1),
    ],
)
def test_wrong_types_in_what_a_run_resumes_from(machine, capsys, change):
    checkpoint(change, name="last.ckpt")
    opened(machine, capsys, "fit", "--ckpt", "x.ckpt", "--run_dir", "run", "--trainer.max_epochs", "2")


# Weights.


def huge_header(path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"1234")


def long_header(path):
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")


def malicious(path):
    torch.save({"x": Malicious(Path("..") / "made")}, path)


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(2**26))
        archive.writestr("x/constants.pkl", b"")


def traversal(path):
    torch.save({"x": torch.zeros(3)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../made", "x")


def expanded(path):
    torch.save({"x": torch.zeros(1).expand(2**20, 2**20)}, path)


def archived(path):
    save_archive({"visual.proj": torch.zeros(3)}, path)


WEIGHTS = (archived, huge_header, long_header, malicious, bomb, traversal, expanded)


@pytest.mark.parametrize("write", WEIGHTS)
def test_hostile_checkpoints(machine, capsys, write):
    write(Path("x.ckpt"))
    for args in (
        ("classify", "--ckpt", "x.ckpt", "gen"),
        ("test", "--ckpt", "x.ckpt"),
        (*recipe("joint"), "--model.init_from", "x.ckpt", "--run_dir", "run"),
        ("filter", *SCORED["filter"], "--ckpt", "x.ckpt"),
        ("convert", "--from", "released", "x.ckpt", "--output", "out"),
        ("convert", "--to", "safetensors", "x.ckpt", "--output", "out"),
    ):
        opened(machine, capsys, *args)


OPENED = {  # every command, with a hostile file in each place where it takes one
    "fit": [("--ckpt", "x.ckpt"), (*recipe("joint")[1:], "--model.init_from", "x.ckpt", "--run_dir", "run")],
    "validate": [("--ckpt", "x.ckpt")],
    "test": [("--ckpt", "x.ckpt")],
    "predict": [("--ckpt", "x.ckpt")],
    "generate": [("--ckpt", "x.ckpt", "--emotion", "awe", "--out", "out")],
    "classify": [("--ckpt", "x.ckpt", "gen")],
    "filter": [(*SCORED["filter"], "--ckpt", "x.ckpt"), ("--generated", "x.ckpt", "--out", "out", "--clip", "clip")],
    "evaluate": [(*SCORED["evaluate"], "--ckpt", "x.ckpt"), (*SCORED["evaluate"], "--real", "x.ckpt")],
    "train-classifier": [
        ("--data.root", str(assets() / "tree"), "--clip", "x.ckpt", "--output", "out.safetensors"),
        ("--data.root", "x.ckpt", "--clip", str(assets() / "clip"), "--output", "out.safetensors"),
    ],
    "data": [
        ("check", "x.ckpt"),
        ("split", "x.ckpt", "--out", "out.json"),
        ("attributes", "x.ckpt", "--out", "out"),
    ],
    "convert": [
        ("--from", "released", "x.ckpt", "--output", "out"),
        ("--to", "safetensors", "x.ckpt", "--output", "o"),
    ],
    "cross-validate": [(*recipe("joint")[1:], "--model.init_from", "x.ckpt", "--run_dir", "run")],
    "reproduce": [("x.ckpt", "--work", "out"), ("x.yaml", "--work", "out")],
    "report": [("x.ckpt",)],
}


@pytest.mark.parametrize(("command", "args"), [(command, args) for command in COMMANDS for args in OPENED[command]])
def test_every_command_refuses_a_pickle(machine, capsys, command, args):
    malicious(Path("x.ckpt"))
    Path("x.yaml").write_text(f"title: x\nrows: {TAGS[0]}\n")
    error = opened(machine, capsys, command, *args)
    assert "x.ckpt" in error or "x.yaml" in error  # it came so far


@pytest.mark.parametrize("write", WEIGHTS)
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_hostile_weights(machine, capsys, write, name):
    write(Path(name))
    with one_line_error("must be a file of"):
        EmotionClassifier.load(name)
    with one_line_error("must hold a CLIP"):
        read_clip_file(Path(name), None)


def change_json(file, *keys, **values):
    content = json.loads(file.read_text()) if file.is_file() else {}
    part = content
    for key in keys:
        part = part[key]
    part.update(values)
    file.write_text(json.dumps(content))


def sized_clip(at, **sizes):
    change_json(at / "open_clip_config.json", "model_cfg", "vision_cfg", **sizes)


AUTO = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
CLIPS = {
    "code beside the tokenizer": lambda at: change_json(at / "tokenizer_config.json", **AUTO),
    "trust in code": lambda at: change_json(
        at / "open_clip_config.json", "model_cfg", "text_cfg", tokenizer_kwargs={"trust_remote_code": True}
    ),
    "stranger's text tower": lambda at: change_json(
        at / "open_clip_config.json", "model_cfg", "text_cfg", hf_model_name="stranger/text"
    ),
    "stranger's image tower": lambda at: change_json(
        at / "open_clip_config.json", "model_cfg", "vision_cfg", timm_model_name="hf-hub:stranger/image"
    ),
    "pickle": lambda at: [(at / "open_clip_model.safetensors").unlink(), malicious(at / "open_clip_pytorch_model.bin")],
    "huge": lambda at: huge_header(at / "open_clip_model.safetensors"),
    "wide": lambda at: sized_clip(at, width=10**7),
    "long": lambda at: sized_clip(at, layers=10**6),
    "large images": lambda at: sized_clip(at, image_size=10**7),
    "nested": lambda at: (at / "open_clip_config.json").write_text("[" * 5000),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", CLIPS.values(), ids=CLIPS)
def test_hostile_clip_folders(machine, capsys, change):
    shutil.copytree(assets() / "clip", "clip")
    shutil.copy(machine / "lib" / "evil.py", "clip")
    change(Path("clip"))
    checkpoint(lambda content: content["uniemo"]["model"]["encoder"].update(clip="clip"))
    opened(machine, capsys, "classify", "--ckpt", "x.ckpt", "gen")


def pickled(at, part, stem):
    for file in (at / part).glob("*.safetensors"):
        file.unlink()
    malicious(at / part / f"{stem}.bin")


DIFFUSIONS = {
    "class of another module": lambda at: change_json(at / "model_index.json", unet=["evil", "Evil"]),
    "Popen": lambda at: change_json(at / "model_index.json", scheduler=["subprocess", "Popen"]),
    "pipeline of its own": lambda at: change_json(at / "model_index.json", _class_name=["evil", "Evil"]),
    "pickled UNet": lambda at: pickled(at, "unet", "diffusion_pytorch_model"),
    "pickled text encoder": lambda at: pickled(at, "text_encoder", "pytorch_model"),
    "stranger's kernel": lambda at: change_json(
        at / "text_encoder" / "config.json", _attn_implementation="stranger/kernel"
    ),
    "stranger's adapter": lambda at: change_json(
        at / "text_encoder" / "adapter_config.json", base_model_name_or_path="stranger/model", peft_type="LORA"
    ),
    "code beside the tokenizer": lambda at: (at / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(AUTO)),
    "huge": lambda at: huge_header(at / "unet" / "diffusion_pytorch_model.safetensors"),
    "long UNet": lambda at: change_json(at / "unet" / "config.json", layers_per_block=10**6),
    "many blocks": lambda at: change_json(at / "vae" / "config.json", down_block_types=["DownEncoderBlock2D"] * 10**5),
    "long text encoder": lambda at: change_json(at / "text_encoder" / "config.json", num_hidden_layers=10**6),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", DIFFUSIONS.values(), ids=DIFFUSIONS)
def test_hostile_diffusion_folders(machine, capsys, change):
    shutil.copytree(assets() / "diffusion", "diffusion")
    for folder in ("diffusion", "diffusion/unet", "diffusion/tokenizer"):
        shutil.copy(machine / "lib" / "evil.py", folder)
    change(Path("diffusion"))
    checkpoint(lambda content: content["uniemo"]["model"]["diffusion"].update(path="diffusion"), "joint")
    opened(machine, capsys, *GENERATE)


# Text.


@pytest.mark.parametrize("text", TAGS)
def test_tags_in_configurations(machine, capsys, text):
    Path("x.yaml").write_text(text)
    opened(machine, capsys, "fit", "--config", "x.yaml")
    checkpoint(lambda content: content["uniemo"].update(config=text))
    opened(machine, capsys, "test", "--ckpt", "x.ckpt")


def test_hostile_report(machine, capsys):
    """Names and values of a run's files are text in its report."""
    script = "<script>alert(1)</script>"
    run = Path("run <img src=x onerror=alert(2)>")
    shutil.copytree(trained("understanding"), run)
    (run / "test.json").write_text(json.dumps({"test/accuracy": 0.5, f"test/{script}": 1.0, "x": script}))
    (run / "config.yaml").write_text(f"model: {{class_path: '{script}'}}\ndata: !!python/name:os.system x\n")
    (run / "images").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(run / "images" / "'><b onload=x>.png")
    opened(machine, capsys, "report", str(run), code=0)
    page = (run / "report.html").read_text()
    for hostile in ("<script>alert", "<img src=x", "<b onload"):
        assert hostile not in page


def test_coefficients_and_weights_that_are_pickles(machine, capsys):
    Path("x.pkl").write_bytes(pickle.dumps(Malicious(Path("..") / "made")))
    opened(machine, capsys, "convert", "--from", "coefficients", "x.pkl", "--output", "out.json")


def test_hostile_dataset(machine, capsys):
    """Names in a dataset's lists are data."""
    shutil.copytree(assets() / "tree", "tree")
    for file in Path("tree").glob("*.json"):
        with contextlib.suppress(ValueError):
            content = json.loads(file.read_text())
            if isinstance(content, list):
                file.write_text(json.dumps([*content, ["awe", "../../../ran", "x\x00y"]]))
    with watched(machine / "work", assets() / "cache") as seen:
        assert main(["data", "check", "tree"]) in (0, 1, 2)
    assert not seen
    assert "Traceback" not in capsys.readouterr().err


def test_a_trusted_class_is_imported(machine):
    configured(lambda config: config["model"].update(CLASS))
    with watched(machine) as seen:
        assert main(["test", "--ckpt", "x.ckpt", "--trust"]) == 2  # it is no module of Lightning
    assert (machine / "ran").exists()
    assert not seen


@pytest.mark.parametrize("hidden", ['"x"', "[" * 100_000])
def test_safetensors_with_hostile_metadata(machine, capsys, hidden):
    state = {"layers.0.weight": torch.zeros(8, 4), "mean": torch.zeros(4)}
    metadata = {"format": "uniemo emotion classifier", "emotions": "3", "hidden": hidden, "dropout": "[]", "clip": "x"}
    save_file(state, "x.safetensors", metadata)
    args = ("evaluate", *SCORED["evaluate"], "--real", str(assets() / "tree"), "--classifier", "x.safetensors")
    opened(machine, capsys, *args)
