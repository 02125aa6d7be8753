"""Tiny vision-language models: LLaVA, Qwen2.5-VL and Qwen3-VL with random weights, and a tokenizer of a few words."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.tiny import CORPUS

MODELS = ("llava", "qwen2_5_vl", "qwen3_vl")
MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|> USER {% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|> {% else %}{{ c['text'] }} {% endif %}{% endfor %}<|im_end|> "
    "{% endfor %}{% if add_generation_prompt %}<|im_start|> ASSISTANT{% endif %}"
)
SIZES = {"hidden_size": 16, "intermediate_size": 16}
TEXT = {**SIZES, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.5}


def tiny_vision_language(place: Path, name: str) -> Path:
    """Write a model of two layers and random weights, unless it is there, that knows the tiny CLIP's corpus."""
    if not place.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            processor, model = _llava() if name == "llava" else _qwen(name)
        model.save_pretrained(place)
        processor.save_pretrained(place)
    return place


def _tokenizer(special: tuple[str, ...], **roles: str):
    """A tokenizer that splits at spaces and punctuation; the special tokens come first."""
    from transformers import PreTrainedTokenizerFast

    vocabulary = [*special, "USER", "ASSISTANT", ":", "?", *dict.fromkeys(CORPUS)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **roles)
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    return fast


def _llava():
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = _tokenizer(("<s>", "</s>", "<unk>", "<image>"), bos_token="<s>", eos_token="</s>")  # no pad_token
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(
            "{% for m in messages %}USER : {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> "
            "{% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
            "{% if add_generation_prompt %}ASSISTANT :{% endif %}"
        ),
    )
    vision = CLIPVisionConfig(**SIZES, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
    text = LlamaConfig(**TEXT, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=1)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=3, image_token_id=3)
    return processor, LlavaForConditionalGeneration(config)


def _qwen(name: str):
    import transformers
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    third = name == "qwen3_vl"
    tokenizer = _tokenizer(("<unk>", "<|endoftext|>", *MARKS), eos_token="<|im_end|>", pad_token="<|endoftext|>")
    prefix = "Qwen3VL" if third else "Qwen2_5_VL"
    processor = getattr(transformers, f"{prefix}Processor")(
        image_processor=Qwen2VLImageProcessor(patch_size=8, min_pixels=16**2, max_pixels=32**2),
        tokenizer=tokenizer,
        video_processor=(Qwen3VLVideoProcessor if third else Qwen2VLVideoProcessor)(patch_size=8),
        chat_template=TEMPLATE,
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    vision = {**SIZES, "depth": 2, "num_heads": 2, "patch_size": 8, "out_hidden_size": 16}
    text = {**TEXT, "num_key_value_heads": 2, "vocab_size": len(tokenizer), "eos_token_id": 3, "pad_token_id": 1}
    if third:
        text |= {"head_dim": 8, "rope_parameters": {**rope, "mrope_interleaved": True}}
        vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    else:
        text |= {"rope_parameters": rope, "bos_token_id": 1}
        vision |= {"window_size": 16, "fullatt_block_indexes": [1]}
    tokens = {"vision_start_token_id": 4, "vision_end_token_id": 5, "image_token_id": 6, "video_token_id": 7}
    config = getattr(transformers, f"{prefix}Config")(text_config=text, vision_config=vision, **tokens)
    return processor, getattr(transformers, f"{prefix}ForConditionalGeneration")(config)
