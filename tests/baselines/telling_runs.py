"""Tiny runs of the baselines that tell emotions, and a tiny vision-language model."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.tiny import CORPUS
from tests.tiny_runs import assets
from uniemo.cli import main

METHODS = ("zero_shot", "linear_probe", "fine_tune", "coop", "cocoop")


@cache
def folder() -> Path:
    """Folder for overlays, runs and the vision-language model."""
    root = Path(tempfile.mkdtemp(prefix="uniemo-telling-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def recipe(method: str) -> list[str]:
    """Words of a tiny fit, without a run folder."""
    overlay = {
        "data": {"init_args": {"root": str(assets() / "tree"), "image_size": 32, "batch_size": 16}},
        "trainer": {"log_every_n_steps": 1, "enable_progress_bar": False},
    }
    if method == "vision_language":
        overlay["model"] = {"init_args": {"path": str(tiny_vision_language())}}
    else:
        overlay["model"] = {"init_args": {"encoder": {"clip": str(assets() / "clip")}}}
    if method not in ("zero_shot", "vision_language"):
        overlay["trainer"]["max_epochs"] = 1
    if method == "coop":
        overlay["model"]["init_args"]["context_length"] = 3
    file = folder() / f"{method}.yaml"
    file.write_text(yaml.safe_dump(overlay))
    return ["fit", "--config", f"baselines/{method}.yaml", "--config", str(file)]


@cache
def trained(method: str) -> Path:
    """Run folder of a method."""
    run = folder() / "runs" / method
    assert main([*recipe(method), "--run_dir", str(run)]) == 0
    return run


@cache
def tiny_vision_language() -> Path:
    """Write a LLaVA of two layers and random weights that knows the words of the tiny CLIP's corpus."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    words = ["<s>", "</s>", "<unk>", "<image>", "USER", "ASSISTANT", ":", "?", *dict.fromkeys(CORPUS)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    template = (
        "{% for m in messages %}USER : {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> "
        "{% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT :{% endif %}"
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer=fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(words),
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.5,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=3, image_token_id=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config)
    place = folder() / "llava"
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place
