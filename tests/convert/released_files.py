"""Files as the released code writes them, with random weights, and what it computes from them in plain functions.

Nothing of uniemo or open_clip is in the reference, which reads the raw tensors by the released names.
"""

import argparse

import torch
import torch.nn.functional as F

from uniemo.cli import main
from uniemo.convert.released import read_released
from uniemo.convert.released_model import build_model


def released_state(width=64, layers=3, patch=8, image=32, queries=4, embed=32, text=64, vocab=50, context=7, seed=0):
    """Random tensors under the released names; text 0 leaves the text tower out."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def put(name, *shape, scale=None, shift=0.0):
        scale = shape[-1] ** -0.5 if scale is None else scale
        state[name] = scale * torch.randn(*shape, generator=generator) + shift

    def norm(name, size):
        put(f"{name}.weight", size, scale=0.2, shift=1.0)
        put(f"{name}.bias", size, scale=0.2)

    def linear(name, out, size, bias=True):
        put(f"{name}.weight", out, size)
        if bias:
            put(f"{name}.bias", out, scale=0.1)

    def block(name, size):
        put(f"{name}.attn.in_proj_weight", 3 * size, size)
        put(f"{name}.attn.in_proj_bias", 3 * size, scale=0.1)
        linear(f"{name}.attn.out_proj", size, size)
        norm(f"{name}.ln_1", size)
        linear(f"{name}.mlp.c_fc", 4 * size, size)
        linear(f"{name}.mlp.c_proj", size, 4 * size)
        norm(f"{name}.ln_2", size)

    put("visual.conv1.weight", width, 3, patch, patch, scale=(3 * patch * patch) ** -0.5)
    put("visual.class_embedding", width)
    put("visual.positional_embedding", (image // patch) ** 2 + 1, width, scale=0.5)
    norm("visual.ln_pre", width)
    for i in range(layers):
        block(f"visual.transformer.resblocks.{i}", width)
    norm("visual.ln_post", width)
    put("visual.proj", width, embed)
    put("visual.visual_query_scene.weight", queries, width, scale=1.0)
    put("visual.visual_query_object.weight", queries, width, scale=1.0)
    for i in (0, 1):
        interact = f"visual.transformer.visual_query_interact.{i}"
        norm(f"{interact}.norm", width)
        put(f"{interact}.query_alpha", width)
        decoder = f"{interact}.query_decoder.0"
        for letter in "qkv":
            linear(f"{decoder}.cross_attn.{letter}_proj", width, width, bias=False)
        linear(f"{decoder}.cross_attn.proj", width, width)
        norm(f"{decoder}.norm1", width)
        norm(f"{decoder}.norm3", width)
        linear(f"{decoder}.mlp.0", 4 * width, width)
        linear(f"{decoder}.mlp.3", width, 4 * width)
    for name in ("scene", "object", "scene_last", "object_last"):
        put(f"visual_query_{name}_proj", width, embed, scale=1.0)
    for name in ("logit_scale", "logit_scale_object", "logit_scale_last", "logit_scale_object_last"):
        state[name] = torch.tensor(2.66)
    if text:
        for i in range(2):
            block(f"transformer.resblocks.{i}", text)
        put("token_embedding.weight", vocab, text)
        put("positional_embedding", context, text)
        norm("ln_final", text)
        put("text_projection", text, embed)
    return state


def classifier_state(width=64, hidden=48, emotions=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        "fc0.weight": torch.randn(hidden, width, generator=generator) * width**-0.5,
        "fc0.bias": torch.randn(hidden, generator=generator),
        "fc1.weight": torch.randn(emotions, hidden, generator=generator) * hidden**-0.5,
        "fc1.bias": torch.randn(emotions, generator=generator),
    }


def whole_file(state, classifier):
    """The dictionary that the released code saves as best.pth."""
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([weight], lr=8e-6)
    weight.grad = torch.ones(3)
    optimizer.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=32)
    return {
        "model": state,
        "Emo_classifier": classifier,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "max_accuracy": 71.5,
        "epoch": 9,
        "config": argparse.Namespace(model_arch="ViT-L/14", query_len=32, output_dir=None, betas=(0.9, 0.98)),
    }


def load_released(path, **names):
    return build_model(read_released(path), **names)


def convert(source, output, *args):
    """Run ``uniemo convert --from released`` and return its exit status."""
    return main(["convert", "--from", "released", str(source), "--output", str(output), *map(str, args)])


def save(path, content, **options):
    torch.save(content, path, **options)
    return path


def _norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def _linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def _quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def _attend(q, k, v, heads):
    """Softmax attention in heads, written out; q (B, Q, D), k and v (B, K, D)."""
    size = q.shape[-1] // heads
    out = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        weights = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) * size**-0.5, dim=-1)
        out.append(weights @ v[..., part])
    return torch.cat(out, dim=-1)


def _layer(w, name, x, heads):
    y = _norm(w, f"{name}.ln_1", x)
    q, k, v = F.linear(y, w[f"{name}.attn.in_proj_weight"], w[f"{name}.attn.in_proj_bias"]).chunk(3, dim=-1)
    x = x + _linear(w, f"{name}.attn.out_proj", _attend(q, k, v, heads))
    y = _quick_gelu(_linear(w, f"{name}.mlp.c_fc", _norm(w, f"{name}.ln_2", x)))
    return x + _linear(w, f"{name}.mlp.c_proj", y)


def _interact(w, index, q, x, heads):
    name = f"visual.transformer.visual_query_interact.{index}"
    decoder = f"{name}.query_decoder.0"
    v = _norm(w, f"{name}.norm", x)
    query, key, value = (
        F.linear(y, w[f"{decoder}.cross_attn.{letter}_proj.weight"])
        for letter, y in zip("qkv", (_norm(w, f"{decoder}.norm1", q), v, v), strict=True)
    )
    q = q + _linear(w, f"{decoder}.cross_attn.proj", _attend(query, key, value, heads))
    return q + _linear(
        w, f"{decoder}.mlp.3", _quick_gelu(_linear(w, f"{decoder}.mlp.0", _norm(w, f"{decoder}.norm3", q)))
    )


def reference(w, images, classifier=None):
    """What the released code computes: cls, scene, object (B, D), patches (B, P, D) and logits."""
    width, _, patch, _ = w["visual.conv1.weight"].shape
    heads = width // 64
    layers = len({name.split(".")[3] for name in w if name.startswith("visual.transformer.resblocks.")})
    first, second = layers // 3, 2 * layers // 3
    x = F.conv2d(images, w["visual.conv1.weight"], stride=patch).flatten(2).transpose(1, 2)
    x = torch.cat([w["visual.class_embedding"].expand(len(x), 1, width), x], dim=1) + w["visual.positional_embedding"]
    x = _norm(w, "visual.ln_pre", x)
    tokens, queries = x.shape[1], len(w["visual.visual_query_scene.weight"])
    x = torch.cat([x, w["visual.visual_query_scene.weight"].expand(len(x), -1, -1)], dim=1)
    scene = objects = None
    for i in range(layers):
        x = _layer(w, f"visual.transformer.resblocks.{i}", x, heads)
        if i + 1 == first:
            q = _interact(w, 0, x[:, tokens:], x[:, :tokens], heads)
            scene = q.mean(dim=1)
            raw = w["visual.visual_query_object.weight"].expand(len(x), -1, -1)
            x = torch.cat([x[:, :tokens], q, raw], dim=1)
        elif i + 1 == second:
            q = _interact(w, 1, x[:, tokens + queries :], x[:, :tokens], heads)
            objects = q.mean(dim=1)
            x = torch.cat([x[:, : tokens + queries], q], dim=1)
    cls = _norm(w, "visual.ln_post", x[:, 0])
    logits = None
    if classifier is not None:
        logits = _linear(classifier, "fc1", F.relu(_linear(classifier, "fc0", cls)))
    return {"cls": cls, "scene": scene, "object": objects, "patches": x[:, 1:tokens], "logits": logits}
