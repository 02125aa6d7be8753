import pytest
import torch
import torch.nn.functional as F

from uniemo.data import EmoSet, denormalise
from uniemo.errors import UniEmoError
from uniemo.metrics import BlockDistance, EvaluationNetworks, FrozenClip
from uniemo.metrics.networks import block_vectors, network_name
from uniemo.models.clip import load_clip


def _images(n=3, size=32, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_features_are_those_of_the_clip(clip_folder, networks):
    parts = load_clip(str(clip_folder))
    images = _images()
    normalised = (images - torch.tensor(parts.mean).view(3, 1, 1)) / torch.tensor(parts.std).view(3, 1, 1)
    with torch.no_grad():
        expected = parts.visual(normalised)
    torch.testing.assert_close(networks.clip.features(images), expected)
    assert networks.clip.text(["a cake", "a skull"]).shape == (2, networks.clip.embed_dim)


def test_one_run_gives_features_and_every_block(networks):
    images = _images()
    features, blocks = networks.clip.features_and_blocks(images)
    torch.testing.assert_close(features, networks.clip.features(images))
    assert [block.shape for block in blocks] == [(3, 16, 32)] * 3
    output = networks(images)
    torch.testing.assert_close(output.features, features)
    torch.testing.assert_close(output.blocks, block_vectors(blocks))
    assert not any(block._forward_hooks for block in networks.clip.visual.transformer.resblocks)


def test_one_image_does_not_depend_on_the_rest(networks):
    images = _images(4)
    torch.testing.assert_close(networks(images).blocks[2:3], networks(images[2:3]).blocks)
    torch.testing.assert_close(networks(images).features[2:3], networks(images[2:3]).features)


def test_block_distance_by_hand(networks):
    first, second = _images(2, seed=0), _images(2, seed=1)
    (_, a), (_, b) = (networks.clip.features_and_blocks(images) for images in (first, second))
    for n in range(2):
        total = 0.0
        for block in range(3):
            for position in range(16):
                x, y = a[block][n, position], b[block][n, position]
                total += float((x / x.norm() - y / y.norm()).square().sum())
        distance = BlockDistance(networks.clip)(first, second)
        assert float(distance[n]) == pytest.approx(total / (3 * 16), rel=1e-4)
    torch.testing.assert_close(BlockDistance(networks.clip)(first, first), torch.zeros(2))
    torch.testing.assert_close(BlockDistance(networks.clip)(second, first), distance)


def test_preprocess_resizes_antialiased_and_cuts_the_centre(networks):
    wide = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(wide[..., 32:96], (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    got = networks.clip.preprocess(wide) * networks.clip.std + networks.clip.mean
    assert got.shape == (1, 3, 32, 32)
    assert (got - expected)[..., 4:-4].abs().max() < 1e-4


def test_agrees_with_the_loader(emoset_root, networks):
    batch = next(iter(EmoSet(str(emoset_root), 64, None, 4).val_dataloader()))
    assert denormalise(batch.images).min() >= 0
    small = next(iter(EmoSet(str(emoset_root), 32, None, 4).val_dataloader()))
    got = networks.clip.preprocess(denormalise(batch.images)) * networks.clip.std + networks.clip.mean
    assert (got - denormalise(small.images)).abs().mean() < 0.01


def test_frozen_and_eval_whatever_is_asked(networks):
    networks.train()
    assert not networks.clip.training
    assert not any(module.training for module in networks.clip.modules())
    assert not any(parameter.requires_grad for parameter in networks.parameters())


def test_names_and_hash(clip_folder, networks, tmp_path):
    assert network_name("miniature:clip") == "miniature-clip"
    assert network_name("ViT-B-32/laion2b") == "ViT-B-32-laion2b"
    assert networks.name == "tiny-clip"
    assert networks.clip.hash == FrozenClip(str(clip_folder)).hash
    assert len(networks.clip.hash) == 12
    other = EvaluationNetworks(str(clip_folder)).clip
    other.visual.proj.data += 1
    assert other.hash != networks.clip.hash


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floats"),
        (torch.zeros(3, 8, 8), "floats"),
        (torch.zeros(1, 1, 8, 8), "floats"),
        (torch.full((1, 3, 8, 8), -1.0), r"\[0, 1\]"),
        (torch.full((1, 3, 8, 8), 255.0), r"\[0, 1\]"),
    ],
)
def test_wrong_range_or_shape(networks, images, match):
    with pytest.raises(UniEmoError, match=match):
        networks.clip.features(images)
