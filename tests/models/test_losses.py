import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.forked import needs_two_cores, two_ranks
from uniemo.models.losses import (
    CrossEntropyConditionLoss,
    PrototypeLoss,
    TripletConditionLoss,
    contrastive_loss,
    diffusion_loss,
    emotion_loss,
    sample_object,
)

TAU = 0.07


def example(batch=7, vocabulary=4, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    projected = torch.randn(batch, width, generator=generator)
    text = F.normalize(torch.randn(vocabulary, width, generator=generator), dim=-1)
    attribute = torch.tensor([0, 1, -1, 1, 3, 0, -1])[:batch]
    return projected, text, attribute


def test_emotion_loss_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 300.0, -300.0]])
    d = torch.tensor([[0.25, 0.75, 0.0], [0.0, 1.0, 0.0]])
    losses = emotion_loss(logits, d.argmax(dim=1), d)
    softmax = [np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in logits.double().numpy()]
    for loss, target, share in zip(losses.tolist(), d.tolist(), softmax, strict=True):
        assert loss == pytest.approx(sum(a * np.log(a / b) for a, b in zip(target, share, strict=True) if a), abs=1e-6)


@pytest.mark.parametrize("one_hot", [True, False])
def test_kl_is_cross_entropy_less_the_entropy_of_the_target(one_hot):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 8, generator=generator, requires_grad=True)
    label = torch.arange(9) % 8
    d = F.one_hot(label, 8).float() if one_hot else torch.rand(9, 8, generator=generator).softmax(dim=1)
    kl = emotion_loss(logits, label, d)
    plain = emotion_loss(logits, label) if one_hot else F.cross_entropy(logits, d, reduction="none")
    entropy = -torch.special.xlogy(d, d).sum(dim=1)
    assert torch.allclose(kl, plain - entropy, atol=1e-6)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (kl, plain)]
    assert torch.allclose(*gradients, atol=1e-6)
    perfect = emotion_loss(d.clamp(min=1e-30).log(), label, d)
    assert torch.allclose(perfect, torch.zeros(9), atol=1e-6)


def reference(projected, text, attribute, duplicates, form):
    """Eq. 4 in plain loops over pairs of samples."""
    p, t = projected.double().numpy(), text.double().numpy()
    p = p / np.linalg.norm(p, axis=1, keepdims=True)
    valid = [i for i in range(len(p)) if attribute[i] >= 0]
    losses = []
    for i in valid:
        directions = []
        for image_first in (True, False) if form == "symmetric" else (True,):
            above, below = 0.0, 0.0
            for j in valid:
                image, label = (i, j) if image_first else (j, i)
                score = np.exp(np.dot(p[image], t[attribute[label]]) / TAU)
                below += score
                same = attribute[i] == attribute[j]
                above += score if (i == j or (same and duplicates == "positive")) else 0.0
            directions.append(-np.log(above / below))
        losses.append(np.mean(directions))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("duplicates", ["positive", "negative"])
@pytest.mark.parametrize("form", ["image_to_text", "symmetric"])
def test_contrastive_loss_against_loops(duplicates, form):
    projected, text, attribute = example()
    loss = contrastive_loss(projected, text, attribute, TAU, duplicates, form)
    assert float(loss) == pytest.approx(reference(projected, text, attribute, duplicates, form), rel=1e-4)


def test_contrastive_identities():
    projected, text, attribute = example()
    loss = contrastive_loss(projected, text, attribute)
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    assert torch.allclose(loss, contrastive_loss(projected[order], text, attribute[order]))
    assert torch.allclose(loss, contrastive_loss(3 * projected, text, attribute))  # cosine
    valid = attribute >= 0
    assert torch.allclose(loss, contrastive_loss(projected[valid], text, attribute[valid]))  # absent take no part
    assert float(contrastive_loss(projected, text, torch.full((7,), 2))) == pytest.approx(0, abs=1e-5)
    literal = contrastive_loss(projected, text, torch.full((7,), 2), duplicates="negative")
    assert float(literal) == pytest.approx(np.log(7), rel=1e-5)


@pytest.mark.parametrize("form", ["image_to_text", "symmetric"])
@pytest.mark.parametrize("duplicates", ["positive", "negative"])
def test_no_valid_anchor_gives_zero_with_its_graph(form, duplicates):
    projected, text, _ = example()
    projected.requires_grad_()
    loss = contrastive_loss(projected, text, torch.full((7,), -1), TAU, duplicates, form)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(projected.grad, torch.zeros_like(projected))


def _rank(rank, folder, form, duplicates):
    projected, text, attribute = example(batch=6)
    part = slice(rank * 3, rank * 3 + 3)
    mine = projected[part].clone().requires_grad_()
    loss = contrastive_loss(mine, text, attribute[part], TAU, duplicates, form)
    loss.backward()
    np.savez(folder / f"{rank}.npz", loss=float(loss), gradient=mine.grad.numpy())


@needs_two_cores
@pytest.mark.parametrize(("form", "duplicates"), [("image_to_text", "negative"), ("symmetric", "positive")])
def test_two_ranks_equal_one(tmp_path, form, duplicates):
    projected, text, attribute = example(batch=6)
    projected.requires_grad_()
    whole = contrastive_loss(projected, text, attribute, TAU, duplicates, form)
    whole.backward()

    two_ranks(_rank, tmp_path, tmp_path, form, duplicates)
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    assert np.mean([part["loss"] for part in found]) == pytest.approx(whole.item(), rel=1e-5)
    # gradients with respect to a shared weight are averaged over ranks: half of each rank's sum
    averaged = np.concatenate([part["gradient"] for part in found]) / 2
    assert np.allclose(averaged, projected.grad.numpy(), atol=1e-6)


def test_objects_are_sampled_evenly_from_those_that_are_there():
    objects = torch.tensor([[False, True, True, False, True]]).expand(6, -1)
    lots = torch.tensor([0.0, 0.3, 0.34, 0.6, 0.7, 1 - 2**-53], dtype=torch.float64)
    assert sample_object(objects, lots).tolist() == [1, 1, 2, 2, 4, 4]
    for none in (torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 0, dtype=torch.bool)):
        assert sample_object(none, torch.rand(2)).tolist() == [-1, -1]


def softmax_loss(logits, target):
    logits = np.array(logits, dtype=np.float64)
    return float(np.log(np.exp(logits).sum()) - logits[target])


def condition_example():
    generator = torch.Generator().manual_seed(3)
    condition = (torch.randn(4, 5, generator=generator), torch.randn(4, 6, generator=generator))
    return condition, torch.tensor([0, 2, 1, 2]), torch.randn(4, 3, generator=generator)


def test_prototype_loss_against_loops():
    condition, emotion, logits = condition_example()
    init = [torch.randn(3, 5), torch.randn(3, 6)]
    loss = PrototypeLoss(init, tau=TAU)
    expected = []
    for c, start in zip(condition, init, strict=True):
        for row, target in zip(c.double().numpy(), emotion.tolist(), strict=True):
            cosines = [row @ q / np.linalg.norm(row) / np.linalg.norm(q) for q in start.double().numpy()]
            expected.append(softmax_loss(np.array(cosines) / TAU, target))
    assert loss(condition, emotion, logits).mean().item() == pytest.approx(np.mean(expected), rel=1e-4)
    assert all(prototype.requires_grad for prototype in loss.prototypes)
    assert torch.equal(loss.prototypes[0], init[0])


def test_triplet_loss_against_loops():
    condition, emotion, logits = condition_example()
    loss = TripletConditionLoss(3, (5, 6), margin=0.5)
    expected = []
    for c, head in zip(condition, loss.heads, strict=True):
        for row, target, image in zip(
            head(c).detach().double().numpy(), emotion.tolist(), logits.tolist(), strict=True
        ):
            hardest = max((k for k in range(3) if k != target), key=lambda k: image[k])

            def distance(k, row=row):
                return 1 - row @ np.eye(3)[k] / np.linalg.norm(row)

            triplet = max(0.0, distance(target) - distance(hardest) + 0.5)
            expected.append(triplet + softmax_loss(row, target))
    assert loss(condition, emotion, logits).mean().item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_cross_entropy_loss_against_loops():
    condition, emotion, logits = condition_example()
    loss = CrossEntropyConditionLoss(3, (5, 6))
    expected = [
        softmax_loss(row, target)
        for c, head in zip(condition, loss.heads, strict=True)
        for row, target in zip(head(c).tolist(), emotion.tolist(), strict=True)
    ]
    assert loss(condition, emotion, logits).mean().item() == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["image_to_text", "symmetric"])
@pytest.mark.parametrize("duplicates", ["positive", "negative"])
def test_contrastive_loss_is_float32_under_autocast(dtype, form, duplicates):
    projected, text, attribute = example(width=64)
    found = []
    for enabled in (False, True):
        own = projected.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype, enabled=enabled):
            loss = contrastive_loss(own, text, attribute, TAU, duplicates, form)
        loss.backward()
        found.append((loss, own.grad))
    assert found[1][0].dtype == torch.float32
    assert all(torch.equal(plain, mixed) for plain, mixed in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "loss",
    [
        PrototypeLoss([torch.ones(3, 5), torch.eye(3, 6)]),
        TripletConditionLoss(3, (5, 6)),
        CrossEntropyConditionLoss(3, (5, 6)),
    ],
)
def test_condition_losses_are_float32_under_autocast(dtype, loss):
    condition, emotion, logits = condition_example()
    condition, logits = tuple(c.to(dtype) for c in condition), logits.to(dtype)
    plain = loss(tuple(c.float() for c in condition), emotion, logits.float())
    with torch.autocast("cpu", dtype):
        mixed = loss(condition, emotion, logits)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_diffusion_loss_is_float32_under_autocast(dtype):
    prediction, target = torch.randn(2, 4, 8, 8).to(dtype), torch.randn(2, 4, 8, 8)
    with torch.autocast("cpu", dtype):
        mixed = diffusion_loss(prediction, target)
    assert torch.equal(mixed, diffusion_loss(prediction.float(), target))
