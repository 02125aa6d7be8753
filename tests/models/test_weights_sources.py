"""Weights by hub name, folder and single file; random weights; what is said when weights are missing."""

import pickle
import shutil
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants
from malicious import Malicious
from open_clip.tokenizer import tokenize
from safetensors.torch import save_file
from scripted import save_archive
from single_file import save_single_file

from tests.refusals import one_line_error, refused
from uniemo.checkpoint import fingerprint, read_checkpoint
from uniemo.cli import main
from uniemo.errors import UniEmoError
from uniemo.models.clip import find_clip, load_clip
from uniemo.models.clip_shapes import ClipShape, build_shape
from uniemo.models.diffusion import DiffusionConfig, find_diffusion, load_diffusion, load_pipeline
from uniemo.models.diffusion.random_weights import openai_tokenizer, write_configs
from uniemo.models.diffusion.sana import Sana
from uniemo.models.diffusion.sd3 import StableDiffusion3
from uniemo.models.diffusion.sdxl import StableDiffusionXL
from uniemo.models.diffusion.stable_diffusion import StableDiffusion

SD15, SDXL = next(iter(StableDiffusion.published)), next(iter(StableDiffusionXL.published))
VIT_L = "timm/vit_large_patch14_clip_224.openai"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, and a function that puts a folder into it under a name."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)

    def put(name, folder):
        home = cache / f"models--{name.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs/main").write_text("0" * 40)
        shutil.copytree(folder, home / "snapshots" / ("0" * 40))
        return home / "snapshots" / ("0" * 40)

    return put


# by hub name


def test_hub_names_are_found_in_the_cache(hub, clip_folder, diffusion_folder):
    hub("somebody/tiny-clip", clip_folder)
    hub("somebody/tiny.sd", diffusion_folder)
    assert torch.equal(load_clip("somebody/tiny-clip").visual.conv1.weight, load_clip(clip_folder).visual.conv1.weight)
    found = load_diffusion(DiffusionConfig(path="somebody/tiny.sd"))
    known = load_diffusion(DiffusionConfig(path=diffusion_folder))
    assert torch.equal(found.unet.conv_in.weight, known.unet.conv_in.weight)


def test_a_folder_comes_before_the_hub(hub, clip_folder, tmp_path):
    shutil.copytree(clip_folder, tmp_path / "models/clip")
    assert load_clip("models/clip").width == 32


@pytest.mark.parametrize(("name", "size"), [(SD15, "4.3 GB"), (SDXL, "13.9 GB"), ("somebody/else", None)])
def test_missing_diffusion_is_one_line_with_the_command(hub, name, size):
    with pytest.raises(UniEmoError) as error:
        find_diffusion(name)
    line = str(error.value)
    assert "\n" not in line
    assert f"hf download {name} --include 'model_index.json'" in line
    assert "unet/diffusion_pytorch_model.safetensors" in line
    assert "HF_HUB_OFFLINE" in line
    assert ("text_encoder_2/model.safetensors" in line) == (name != SD15)
    assert size is None or size in line


def test_the_missing_file_is_named(hub, diffusion_folder):
    folder = hub("somebody/tiny", diffusion_folder)
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UniEmoError, match=r"unet/diffusion_pytorch_model.safetensors of somebody/tiny not found here"):
        find_diffusion("somebody/tiny")


def test_missing_clip_is_one_line_with_the_command(hub):
    for name in ("ViT-L-14", "ViT-L-14-quickgelu", "ViT-L-14/openai"):
        with pytest.raises(UniEmoError) as error:
            load_clip(name)
        line = str(error.value)
        assert "\n" not in line
        assert f"hf download {VIT_L} --include 'open_clip_model.safetensors'" in line
        assert "1.7 GB" in line
    with pytest.raises(UniEmoError, match=r"hf download somebody/else --include 'open_clip_config.json'"):
        find_clip("somebody/else")


def test_weights_in_the_cache_are_enough(hub, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some/open_clip_model.safetensors").write_bytes(b"")
    hub(VIT_L, tmp_path / "some")
    find_clip("ViT-L-14")


def test_a_network_that_fails_is_named(hub, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for look, name in ((find_diffusion, SD15), (find_clip, "ViT-B-32"), (find_clip, "somebody/else")):
        with one_line_error(r"not found here \(no route\).*hf download"):
            look(name)


@pytest.mark.parametrize("name", ["models/ViT-L-14.pt", "models/model.safetensors"])
def test_a_file_that_is_missing_is_no_repository(name):
    for look in (find_clip, find_diffusion):
        with pytest.raises(UniEmoError) as error:
            look(name)
        assert repr(name) in str(error.value)
        assert "hf download" not in str(error.value)


def test_a_network_is_used_where_it_may_be(hub, clip_folder, monkeypatch):
    asked = []

    def fetch(repo, allow_patterns):
        asked.append(repo)
        return clip_folder

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(UniEmoError):
        find_clip("somebody/else")
    assert not asked  # HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert load_clip("somebody/else").width == 32
    assert asked == ["somebody/else"]


def test_commands_say_it_before_any_work(hub, capsys, tmp_path):
    fit = ("fit", "--config", "joint.yaml", "--data.root", tmp_path / "nowhere")
    for model in (("--model.encoder.clip", "ViT-L-14"), ("--model.diffusion.path", SDXL)):
        assert "hf download" in refused(capsys, *fit, *model)
    assert not (tmp_path / "runs").exists()


# by single file


@pytest.fixture(scope="module")
def small_clip():
    torch.manual_seed(0)
    return build_shape(ClipShape(64, 3, 16, 48, 24))


def archive(model, path):
    """Write a model as OpenAI did: a TorchScript archive in half precision, three numbers beside the weights."""
    numbers = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    return save_archive({name: value.half() for name, value in model.state_dict().items()} | numbers, path)


def same(parts, model, images, atol):
    return torch.allclose(parts.visual(images), model.visual(images), atol=atol)


def test_openais_own_file(small_clip, tmp_path):
    file = archive(small_clip, tmp_path / "ViT.pt")
    parts = load_clip(str(file))
    images = torch.randn(2, 3, 48, 48)
    assert same(parts, small_clip, images, 5e-3)
    assert (parts.width, parts.embed_dim, parts.image_size) == (64, 24, 48)
    assert parts.mean == open_clip.OPENAI_DATASET_MEAN
    assert {parameter.dtype for parameter in parts.visual.parameters()} == {torch.float32}
    texts = ["a dark forest", "a balloon"]
    assert torch.allclose(parts.text(texts), small_clip.encode_text(tokenize(texts)), atol=5e-3)
    before = fingerprint(str(file))
    with zipfile.ZipFile(file, "a") as content:
        content.writestr("more", "x")
    assert fingerprint(str(file)) != before


@pytest.mark.parametrize("change", ["pickle", "code"])
def test_nothing_in_an_archive_is_executed(small_clip, tmp_path, change):
    file = archive(small_clip, tmp_path / "ViT.pt")
    made = tmp_path / "made"
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(tmp_path / "x.pt", "w") as other:
        for name in whole.namelist():
            content = whole.read(name)
            if change == "pickle" and name.endswith("/data.pkl"):
                content = pickle.dumps({"model": Malicious(made)})
            if change == "code" and "/code/" in name:
                content = b"this is no program"
            other.writestr(name, content)
    if change == "code":  # it is not even read
        assert load_clip(str(tmp_path / "x.pt")).width == 64
    else:
        with one_line_error("clip file must hold"):
            load_clip(str(tmp_path / "x.pt"))
    assert not made.exists()


def test_a_state_dict_with_its_architecture(tmp_path, monkeypatch):
    model = open_clip.create_model("ViT-S-32-alt", load_weights=False).eval()
    images = torch.randn(1, 3, 224, 224)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{name}": v for name, v in model.state_dict().items()}}, tmp_path / "b.pt")
    monkeypatch.chdir(tmp_path)
    for name in ("ViT-S-32-alt/a.safetensors", f"ViT-S-32-alt/{tmp_path}/b.pt"):
        assert same(load_clip(name), model, images, 1e-6)
    with pytest.raises(UniEmoError, match="architecture in front"):
        load_clip("a.safetensors")
    with pytest.raises(UniEmoError, match="clip file must hold"):
        load_clip("ViT-S-16-alt/a.safetensors")
    Path("c.safetensors").write_bytes(b"broken")
    with one_line_error("clip file must hold"):
        load_clip("ViT-S-32-alt/c.safetensors")


def test_a_stable_diffusion_file(diffusion_folder, tmp_path, monkeypatch):
    """The published single-file names load to the same weights; configurations come with the package."""
    pipeline = load_pipeline(diffusion_folder)
    save_single_file(pipeline, tmp_path / "tiny.safetensors")

    def write(kind, folder):
        assert kind is StableDiffusion
        ignored = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(diffusion_folder, folder, ignore=ignored)

    monkeypatch.setattr("uniemo.models.diffusion.loading.write_configs", write)
    found = load_diffusion(DiffusionConfig(path=str(tmp_path / "tiny.safetensors"), steps=2))
    known = load_diffusion(DiffusionConfig(path=diffusion_folder, steps=2))
    for part in ("unet", "vae", "text_encoders"):
        ours, theirs = getattr(found, part).state_dict(), getattr(known, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), part
    assert torch.equal(found.generate(None, ["dark forest"], [0]), known.generate(None, ["dark forest"], [0]))


def test_other_single_files_are_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"broken")
    for name in ("x", "y"):
        with pytest.raises(UniEmoError, match=r"\.safetensors file of Stable Diffusion 1 or XL"):
            find_diffusion(str(tmp_path / f"{name}.safetensors"))


def test_a_folder_in_half_precision_only(diffusion_folder, tmp_path):
    folder = tmp_path / "sd"
    load_pipeline(diffusion_folder).to(torch.float16).save_pretrained(folder, variant="fp16")
    assert not (folder / "unet/diffusion_pytorch_model.safetensors").exists()
    backbone = load_diffusion(DiffusionConfig(path=str(folder)))
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}


# random weights


def test_random_weights_are_the_same_every_time(clip_folder, diffusion_folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    def weights(prefix):
        clip = load_clip(f"{prefix}{clip_folder}").visual
        return clip.state_dict() | load_diffusion(DiffusionConfig(path=f"{prefix}{diffusion_folder}")).state_dict()

    first = weights("random:")
    assert torch.equal(torch.rand(3), expected)  # the caller's random numbers are left alone
    second, known = weights("random:"), weights("")
    assert all(torch.equal(first[name], value) for name, value in second.items())
    assert {name: value.shape for name, value in first.items()} == {name: value.shape for name, value in known.items()}
    assert not any(torch.equal(first[name], known[name]) for name in ("conv1.weight", "unet.conv_in.weight"))


def test_random_weights_need_no_weight_files(diffusion_folder, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(diffusion_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    assert load_diffusion(DiffusionConfig(path=f"random:{folder}", dtype="bfloat16")).image_size == 32
    with pytest.raises(UniEmoError, match=r"sd15.* for random weights"):
        find_diffusion("random:somebody/else")


VAE, CLIP_L, CLIP_G, T5, GEMMA = 83_653_863, 123_060_480, 694_659_840, 4_762_310_656, 2_614_341_888
SIZES = {  # as published on the models' pages
    (StableDiffusion, "sd15"): {"unet": 859_520_964, "vae": VAE, "text_encoder": CLIP_L},
    (StableDiffusion, "sd21"): {"unet": 865_910_724, "vae": VAE, "text_encoder": 340_387_840},
    (StableDiffusionXL, "sdxl"): {
        **{"unet": 2_567_463_684, "vae": VAE, "text_encoder": CLIP_L, "text_encoder_2": CLIP_G},
    },
    (StableDiffusion3, "sd35"): {
        **{"transformer": 2_243_171_520, "vae": 83_819_683},
        **{"text_encoder": CLIP_L + 768**2, "text_encoder_2": CLIP_G, "text_encoder_3": T5},
    },
    (Sana, "sana"): {"transformer": 591_747_872, "vae": 312_250_275, "text_encoder": GEMMA},
}


@pytest.mark.parametrize(("family", "name"), list(SIZES))
def test_configurations_have_the_published_sizes(tmp_path, family, name):
    import diffusers
    import transformers

    write_configs(family, tmp_path / "model", name)
    found = {}
    with torch.device("meta"):
        for part, class_name in family.components.items():
            folder, kind = str(tmp_path / "model" / part), getattr(diffusers, class_name, None)
            if kind is not None:
                network = kind.from_config(kind.load_config(folder))
            elif not part.startswith("tokenizer"):
                kind = getattr(transformers, class_name)
                network = kind(kind.config_class.from_pretrained(folder))
            else:
                continue
            found[part] = sum(parameter.numel() for parameter in network.parameters())
    assert found == SIZES[family, name]


def test_the_tokenizer_is_openais():
    tokenizer = openai_tokenizer("!")
    texts = ["a dark * forest's edge, 1994", "Amusement", ""]
    for text, expected in zip(texts, tokenize(texts), strict=True):
        ids = tokenizer(text, padding="max_length", max_length=77).input_ids
        length = int(expected.argmax()) + 1
        assert ids[:length] == expected[:length].tolist()
        assert set(ids[length:]) == {tokenizer.pad_token_id}
    assert tokenizer.pad_token_id == 0  # "!", as XL's second tokenizer has it
    assert openai_tokenizer("<|endoftext|>").pad_token_id == 49407
    assert len(tokenizer("*", add_special_tokens=False).input_ids) == 1


def test_a_dry_run_by_command_is_named_so(tmp_path, monkeypatch, capsys):
    from tests.tiny_runs import assets, recipe

    monkeypatch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main([*recipe("joint"), "--weights", "random", "--trainer.limit_train_batches", "1", "--run_dir", "a"]) == 0
    info = read_checkpoint("a/best.ckpt")[1]
    assert {key: own["name"] for key, own in info.backbones.items()} == {
        key: f"random:{assets() / key}" for key in ("clip", "diffusion")
    }
    assert "random:" in Path("a/config.yaml").read_text()
    assert "weights: random" not in info.config
    assert main(["test", "--ckpt", "a/best.ckpt"]) == 0
    assert main(["validate", "--ckpt", "a/best.ckpt", "--weights", "random"]) == 0
    assert "weights" in refused(capsys, "fit", "--config", "joint.yaml", "--weights", "none")
