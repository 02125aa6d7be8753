"""Rebuild the miniature's weights: ``python -m uniemo.miniature.recipe``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

STAGES = ("clip", "vae", "unet", "quality")


def main() -> None:
    """Run the stages asked for; each saves its state often and resumes."""
    parser = argparse.ArgumentParser(
        prog="python -m uniemo.miniature.recipe",
        description="Pre-train the miniature CLIP and Stable Diffusion on paintings. Interrupted runs resume.",
    )
    weights = Path(__file__).parents[1] / "weights"
    parser.add_argument(
        "--out", type=Path, default=weights, help="folder of the finished weights (default: %(default)s)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/miniature"), help="resumable state (default: %(default)s)"
    )
    parser.add_argument("--grids", type=Path, default=Path("docs"), help="grids to look at (default: %(default)s)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="what to run (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--paintings", type=int, default=40_000, help="size of the pre-training set (default: %(default)s)"
    )
    parser.add_argument("--clip-steps", type=int, default=1150, help="steps of 64 images (default: %(default)s)")
    parser.add_argument("--vae-steps", type=int, default=2400, help="steps of 32 images (default: %(default)s)")
    parser.add_argument("--unet-steps", type=int, default=2600, help="steps of 64 latents (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: %(default)s)")
    arguments = parser.parse_args()

    import torch

    from uniemo.miniature.recipe.store import paint_store

    torch.set_num_threads(arguments.threads)
    out, work, seed = arguments.out, arguments.work, arguments.seed
    work.mkdir(parents=True, exist_ok=True)
    store = paint_store(work / "paintings.npz", arguments.paintings, seed, workers=os.cpu_count() or 1)
    if "clip" in arguments.stages:
        from uniemo.miniature.recipe.clip import train_clip

        train_clip(store, out / "clip", work, arguments.clip_steps, 64, seed)
    if "vae" in arguments.stages or "unet" in arguments.stages:
        from uniemo.miniature.recipe.vae import train_vae

        vae = train_vae(store, work, arguments.vae_steps, 32, seed)
    if "unet" in arguments.stages:
        from uniemo.miniature.recipe.unet import train_unet

        train_unet(store, vae, out / "clip", out / "diffusion", work, arguments.unet_steps, 64, seed)
    if "quality" in arguments.stages:
        from uniemo.miniature.recipe.quality import report

        report(out, arguments.grids, seed)


if __name__ == "__main__":
    main()
