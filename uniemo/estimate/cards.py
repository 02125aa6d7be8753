"""What a configuration needs on cards of several sizes: the largest batch that fits, and hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from uniemo.estimate.steps import CONTEXT, EMOSET, SHARE, Count, FakeModule, StepSettings
from uniemo.modules.base import EmotionModule

TERA = 1e12
REACHED = {"bfloat16": 1 / 6, "float32": 1 / 2}  # share of the peak that training reaches: an assumption


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        name: memory and model.
        memory: in GiB.
        bfloat16: 1e12 operations a second at best, by its data sheet: products in bfloat16, sums in float32, all dense.
        float32: the same in float32.
    """

    name: str
    memory: float
    bfloat16: float
    float32: float


CARDS = (
    Card("12 GB (RTX 4070)", 12, 58.3, 29.1),
    Card("24 GB (RTX 4090)", 24, 165.2, 82.6),
    Card("48 GB (L40S)", 48, 362.0, 91.6),
    Card("80 GB (A100)", 80, 312.0, 19.5),
)


@dataclass(frozen=True)
class Amounts:
    """How often a run does what is counted.

    Attributes:
        batch_size: of a training step.
        training: images that training sees, over all epochs.
        generated: images that validation, explicit feedback and one test generate.
        generation_batch: images generated at once.
    """

    batch_size: int
    training: int
    generated: int = 0
    generation_batch: int = 1


@dataclass(frozen=True)
class Estimate:
    """Memory and work of a run.

    Attributes:
        amounts: how often.
        precision: the trainer's.
        one: a training step of one image.
        two: of two.
        image: an image generated; None for a method without.
        saved: GiB that ``uniemo generate --offload`` saves, by its choices.
    """

    amounts: Amounts
    precision: str
    one: Count
    two: Count
    image: Count | None = None
    saved: Mapping[str, float] = field(default_factory=dict)

    def memory(self, batch_size: int) -> float:
        """Return the GiB of a training step."""
        return self.one.memory + (batch_size - 1) * (self.two.memory - self.one.memory)

    def largest_batch(self, card: Card) -> int:
        """Return the largest batch that fits, up to the configuration's, by halves; 0 where none does."""
        size = self.amounts.batch_size
        while size and self.memory(size) > card.memory:
            size //= 2
        return size

    def training_hours(self, card: Card) -> float:
        """Return the hours of all epochs."""
        return self.amounts.training * (self.two.work - self.one.work) / self._speed(card) / 3600

    def generation_hours(self, card: Card) -> float:
        """Return the hours of all generated images."""
        work = 0.0 if self.image is None else self.image.work
        return self.amounts.generated * work / self._speed(card) / 3600

    def _speed(self, card: Card) -> float:
        """Return operations a second."""
        kind = "bfloat16" if self.precision.endswith("-mixed") else "float32"
        return float(getattr(card, kind)) * REACHED[kind] * TERA

    def text(self) -> str:
        """Return what the command prints."""
        amounts, image = self.amounts, self.image
        lines = [
            f"a training step of {amounts.batch_size}: {self.memory(amounts.batch_size):.1f} GiB, "
            f"{self.one.weights:.1f} of them networks; {self.two.memory - self.one.memory:.2f} GiB and "
            f"{(self.two.work - self.one.work) / TERA:.2f} TFLOP for each image"
        ]
        if image is not None:
            lines.append(
                f"{amounts.generation_batch} images generated at once: {image.memory:.1f} GiB"
                + "".join(f", with --offload {kind} {image.memory - size:.1f}" for kind, size in self.saved.items())
                + f"; {image.work / TERA:.1f} TFLOP for each"
            )
        rows = [["card", "largest batch", "GiB", f"{amounts.training:,} trained", f"{amounts.generated:,} generated"]]
        for card in CARDS:
            batch = self.largest_batch(card)
            fits = [str(batch), f"{self.memory(batch):.1f}"] if batch else ["none", f"{self.memory(1):.1f}"]
            hours = self.training_hours(card), self.generation_hours(card)
            rows.append([card.name, *fits, *map(_hours, hours)])
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, assumptions()])


def assumptions() -> str:
    """Return what the numbers rest on."""
    names = f"{len(EMOSET.emotions)} emotions, {len(EMOSET.scenes)} scenes and {len(EMOSET.objects)} objects"
    mixed, full = (f"{REACHED[kind]:.0%}" for kind in ("bfloat16", "float32"))
    speeds = ", ".join(f"{card.name} {card.bfloat16:g} and {card.float32:g}" for card in CARDS)
    return (
        "Counted on tensors without numbers, not measured: the highest sum of all tensors that are alive at once, "
        f"{SHARE:.0%} for kernels and the allocator, {CONTEXT} GiB for CUDA; products, convolutions and attention, two "
        f"operations for each product. Assumed: architectures as named, {names}, the dataset's published number of "
        f"images; {mixed} of the card's peak in mixed precision and {full} in float32, which are in 1e12 operations a "
        f"second: {speeds}. Not counted: decoding of images, the networks of metrics, the emotion space, waiting."
    )


def estimate(module: EmotionModule, settings: StepSettings, amounts: Amounts, guidance: float, steps: int) -> Estimate:
    """Count a module's training step and, where it generates, an image.

    Args:
        module: as configured, not yet built; weights by ``random:`` names.
        settings: how a step is taken.
        amounts: how often.
        guidance: of generated images.
        steps: of generated images.
    """
    fake = FakeModule(module, settings)
    one, two = (fake.training_step(size) for size in (1, 2))
    if fake.diffusion is None:
        return Estimate(amounts, settings.precision, one, two)
    kinds: tuple[Literal["model", "sequential"], ...] = ("model", "sequential")
    image = fake.image(amounts.generation_batch, guidance, steps)
    return Estimate(amounts, settings.precision, one, two, image, {kind: fake.saved(kind) for kind in kinds})


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h"
