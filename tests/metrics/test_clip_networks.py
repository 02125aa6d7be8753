import pytest
import torch
import torch.nn.functional as F
from weight_files import pictures, tensor

from uniemo.metrics.clip_networks import ClipNetwork, FrozenClip, MiniatureNetwork, block_vectors, network_name
from uniemo.models.clip import load_clip


def _images(n=3, size=32, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_features_are_those_of_the_clip(clip_folder, clip):
    parts = load_clip(str(clip_folder))
    images = _images()
    normalised = (images - torch.tensor(parts.mean).view(3, 1, 1)) / torch.tensor(parts.std).view(3, 1, 1)
    with torch.no_grad():
        expected = parts.visual(normalised)
    torch.testing.assert_close(clip.features(images), expected)
    assert clip.text(["a cake", "a skull"]).shape == (2, clip.embed_dim)


def test_views(clip):
    network, images = ClipNetwork(clip), tensor(pictures(2))
    torch.testing.assert_close(network(images)["features"], clip.features(images))
    resized = clip.preprocess(images) * clip.std + clip.mean
    with torch.no_grad():
        twice = clip.visual((resized / 255 - clip.mean) / clip.std)
    torch.testing.assert_close(network(images, "emogen")["features"], twice)
    assert (network.info.hash, network.info.name) == (clip.hash, "tiny-clip")


def test_one_run_gives_features_and_every_block(clip):
    images = _images()
    features, blocks = clip.run_with_blocks(clip.preprocess(images))
    torch.testing.assert_close(features, clip.features(images))
    assert [block.shape for block in blocks] == [(3, 16, 32)] * 3
    network = MiniatureNetwork(clip)
    output = network(images)
    assert network.clip is clip
    torch.testing.assert_close(output["features"], features)
    torch.testing.assert_close(output["maps"], block_vectors(blocks))
    assert not any(block._forward_hooks for block in clip.visual.transformer.resblocks)


def test_block_distance_by_hand(clip):
    first, second = _images(2, seed=0), _images(2, seed=1)
    (_, a), (_, b) = (clip.run_with_blocks(clip.preprocess(images)) for images in (first, second))
    distance = (block_vectors(a) - block_vectors(b)).square().sum(dim=1)
    for n in range(2):
        total = 0.0
        for block in range(3):
            for position in range(16):
                x, y = a[block][n, position], b[block][n, position]
                total += float((x / x.norm() - y / y.norm()).square().sum())
        assert float(distance[n]) == pytest.approx(total / (3 * 16), rel=1e-4)


def test_preprocess_resizes_antialiased_and_cuts_the_centre(clip):
    wide = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(wide[..., 32:96], (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    got = clip.preprocess(wide) * clip.std + clip.mean
    assert got.shape == (1, 3, 32, 32)
    assert (got - expected)[..., 4:-4].abs().max() < 1e-4


def test_names_and_hash(clip_folder, clip):
    assert network_name("miniature:clip") == "miniature-clip"
    assert network_name("ViT-B-32/laion2b") == "ViT-B-32-laion2b"
    assert clip.name == "tiny-clip"
    other = FrozenClip(str(clip_folder))
    assert other.train().training is False
    assert other.hash == clip.hash
    del other.__dict__["hash"]
    other.visual.proj.data += 1
    assert other.hash != clip.hash
