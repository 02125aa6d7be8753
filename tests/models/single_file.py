"""The published single-file form of a Stable Diffusion 1, written out of a pipeline: the names of its own code."""

from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def save_single_file(pipeline, path):
    """Write a pipeline whose UNet has one resnet per block and two levels, without attention in its VAE."""
    state = {f"model.diffusion_model.{unet_name(name)}": value for name, value in pipeline.unet.state_dict().items()}
    levels = len(pipeline.vae.config.block_out_channels)
    state |= {f"first_stage_model.{vae_name(name, levels)}": v for name, v in pipeline.vae.state_dict().items()}
    for name, value in pipeline.text_encoder.state_dict().items():
        state[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def unet_name(name):
    """Return a tensor's published name."""
    for ours, theirs in OUTER.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    parts = name.split(".")
    if parts[0] == "mid_block":
        place = 1 if parts[1] == "attentions" else 2 * int(parts[2])
        return ".".join([f"middle_block.{place}", *inner(parts[1], parts[3:])])
    level, kind, index, rest = int(parts[1]), parts[2], int(parts[3]), parts[4:]
    if parts[0] == "down_blocks":
        if kind == "downsamplers":
            return ".".join([f"input_blocks.{2 * level + 2}.0.op", *rest[1:]])
        block, place = f"input_blocks.{2 * level + 1 + index}", 0 if kind == "resnets" else 1
        return ".".join([f"{block}.{place}", *inner(kind, rest)])
    if kind == "upsamplers":  # behind the last resnet of a level, and behind its attention where it has one
        return ".".join([f"output_blocks.{2 * level + 1}.{1 if level == 0 else 2}.conv", *rest[1:]])
    block, place = f"output_blocks.{2 * level + index}", 0 if kind == "resnets" else 1
    return ".".join([f"{block}.{place}", *inner(kind, rest)])


def inner(kind, rest):
    """Return the rest of a name inside a resnet or an attention block."""
    return [RESNET[rest[0]], *rest[1:]] if kind == "resnets" else rest


def vae_name(name, levels):
    """Return a VAE tensor's published name."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    parts = name.split(".")
    side = parts[0]
    if parts[1:2] == ["mid_block"]:
        return ".".join([side, "mid", f"block_{int(parts[3]) + 1}", *parts[4:]])
    if parts[1:2] == ["down_blocks"]:
        start = [side, "down", parts[2]]
    elif parts[1:2] == ["up_blocks"]:
        start = [side, "up", str(levels - 1 - int(parts[2]))]
    else:
        return name
    if parts[3] == "resnets":
        return ".".join([*start, "block", *parts[4:]])
    return ".".join([*start, "downsample" if parts[3] == "downsamplers" else "upsample", *parts[5:]])
