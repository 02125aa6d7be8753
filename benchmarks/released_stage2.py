"""What stage 2's ways share, and the released procedure, written anew and plainly (:mod:`benchmarks.stage2`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.stage1 import every_token
from uniemo.data import EmoSet
from uniemo.data.manifest import Manifest
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD
from uniemo.models.clip import load_clip
from uniemo.models.diffusion.prompts import embedding
from uniemo.modules import JointModule
from uniemo.vocabulary import Vocabulary, attribute_text


@dataclass(frozen=True)
class Shapes:
    """What the networks are.

    Attributes:
        clip: of the encoder.
        diffusion: the diffusion model.
        queries: in each set.
        hidden: of the emotion head.
        image: R, pixels of the encoder's view.
        target: D, pixels of the VAE's view.
        painted: side of the pictures on disk.
        batch: samples in a step of ours.
        steps: of ours in a turn.
    """

    clip: str
    diffusion: str
    queries: int
    hidden: int
    image: int
    target: int
    painted: int
    batch: int
    steps: int


@dataclass
class Setting:
    """What all ways share.

    Attributes:
        module: with its model, on the device.
        data: the pictures.
        shapes: of networks and views.
        device: where it runs.
        precision: of the trainer.
    """

    module: JointModule
    data: EmoSet
    shapes: Shapes
    device: torch.device
    precision: str

    @property
    def samples(self) -> int:
        """How many samples a turn has."""
        return self.shapes.batch * self.shapes.steps

    def autocast(self) -> AbstractContextManager[None]:
        """Return the precision as a context."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def wait(self) -> None:
        """Let the device finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class PlainPictures(Dataset[tuple[Tensor, Tensor, int, int, Tensor, str, str]]):
    """Pictures as the released code reads them: encoder's view, VAE's view, labels, texts of scene and object.

    Args:
        records: files and labels.
        names: of scenes and objects.
        shapes: sizes of the views.
    """

    def __init__(self, records: Manifest, names: Vocabulary, shapes: Shapes) -> None:
        self.records, self.names, self.target = records, names, shapes.target
        self.view = transforms.Compose(
            [
                transforms.Resize(shapes.image * 8 // 7),
                transforms.CenterCrop(shapes.image),
                transforms.ToTensor(),
                transforms.Normalize(CLIP_MEAN, CLIP_STD),
            ]
        )
        self.flip = transforms.RandomHorizontalFlip()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, int, Tensor, str, str]:
        """Return picture ``index``; one without an attribute has the word for it, as released."""
        records, file = self.records, self.records.name(index)
        picture = Image.open(records.root / file).convert("RGB")
        annotation = (records.root / "annotation" / Path(file).relative_to("image")).with_suffix(".json")
        known = json.loads(annotation.read_text())
        objects = torch.zeros(len(records.vocabulary.objects))
        objects[records.objects(index).tolist()] = 1
        square = self.flip(picture.resize((self.target, self.target)))
        target = torch.from_numpy((np.array(square) / 127.5 - 1).astype(np.float32)).permute(2, 0, 1)  # (3, D, D)
        texts = attribute_text(known.get("scene", "scene")), attribute_text(known.get("object", ["object"])[-1])
        return self.view(picture), target, int(records.emotion[index]), int(records.scene[index]), objects, *texts


class Released:
    """The released procedure; see the head of :mod:`benchmarks.stage2`.

    Args:
        setting: model and pictures.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        data, model = setting.data, setting.module.model
        diffusion, names = model.diffusion, data.vocabulary
        self.loader = DataLoader(
            PlainPictures(data.records("train"), names, setting.shapes), 1, shuffle=True, num_workers=data.num_workers
        )
        self.text: Callable[[list[str]], Tensor] = load_clip(setting.shapes.clip).text
        self.text._model.visual = nn.Identity()  # type: ignore[attr-defined]  # a second tower would be in memory
        self.text._model.to(setting.device)  # type: ignore[attr-defined]
        width, token = model.encoder.width, diffusion.token_widths[0]
        self.heads = nn.ModuleDict(
            {
                "scene": nn.Linear(width, len(names.scenes)),
                "object": nn.Linear(width, len(names.objects)),
                "condition": nn.Linear(token, len(names.emotions)),
            }
        ).to(setting.device)
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW([*learning, *self.heads.parameters()], lr=0.0)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=32)
        self.table = embedding(diffusion.text_encoders[0]).weight  # (vocabulary, W)
        (self.row,) = diffusion.tokenizers[0](diffusion.config.placeholder, add_special_tokens=False).input_ids
        parts = (*model.encoder.visual.parameters(), *diffusion.unet.parameters(), self.table)
        self.unlearned = [parameter for parameter in parts if not parameter.requires_grad]
        self.gradients: list[Tensor | None] = [None] * len(self.unlearned)

    def turn(self, lean: bool) -> int:
        """Train on as many samples as a turn has; ``lean`` leaves out what is computed and not used."""
        with nullcontext() if lean else self.all_gradients():
            for _, sample in zip(range(self.setting.samples), self.loader, strict=False):
                self.step(lean, *sample)
        self.setting.wait()
        return self.setting.samples

    @contextmanager
    def all_gradients(self) -> Iterator[None]:
        """Let weights that no optimiser has gather gradients, from turn to turn, since nothing clears them."""
        row = self.table.detach()[self.row].clone()  # the placeholder's, which the conditions replace
        for parameter, gradient in zip(self.unlearned, self.gradients, strict=True):
            parameter.requires_grad_(True)
            parameter.grad = gradient
        try:
            yield
        finally:
            self.gradients = [parameter.grad for parameter in self.unlearned]
            for parameter in self.unlearned:
                parameter.requires_grad_(False)
                parameter.grad = None
            self.table.data[self.row] = row

    def step(
        self,
        lean: bool,
        image: Tensor,
        target: Tensor,
        emotion: Tensor,
        scene: Tensor,
        objects: Tensor,
        scene_text: list[str],
        object_text: list[str],
    ) -> None:
        """Train on one sample, a batch of one."""
        model, device = self.setting.module.model, self.setting.device
        diffusion = model.diffusion
        image, target, emotion, scene, objects = (x.to(device) for x in (image, target, emotion, scene, objects))
        with self.setting.autocast():
            self.text(object_text), self.text(scene_text)  # in stage 2 nothing reads them
            if lean:
                features = model.fused_features(model.features(image))
            else:
                features = dict(zip(("cls", "scene", "object"), every_token(model.encoder, image), strict=True))
            loss = 0.9 * F.cross_entropy(model.head(features["cls"]), emotion)
            if int(scene) >= 0:
                loss = loss + 0.05 * F.cross_entropy(self.heads["scene"](features["scene"]), scene)
            if bool(objects.any()):
                scores = self.heads["object"](features["object"])
                loss = loss + 0.05 * F.binary_cross_entropy_with_logits(scores, objects)
            condition = model.condition(features, emotion)
            told = F.cross_entropy(self.heads["condition"](condition[0]), emotion)
            latents = diffusion.encode(target, torch.randn(1, *diffusion.latent_shape, device=device))
            time = torch.randint(diffusion.num_timesteps, (1,), device=device)
            noise = torch.randn_like(latents)
            if not lean:
                self.table.data[self.row] = condition[0][0].detach().to(self.table)
            denoising = diffusion.loss(latents, condition if lean else None, noise, time).mean()
            loss = 0.5 * loss + 1e-3 * told + denoising
        loss.backward(retain_graph=not lean)
        if not lean:
            self.carry_over(condition[0])
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def carry_over(self, condition: Tensor) -> None:
        """Hand the gradient of the embedding table's row to the condition (1, W) in a second backward pass."""
        assert self.table.grad is not None
        row = self.table.grad[self.row].detach()
        condition.register_hook(lambda gradient: gradient + row)
        (0 * condition.mean()).backward(retain_graph=True)
        row.zero_()
