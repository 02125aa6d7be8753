"""A UNet whose weights two ranks share out gives what a whole one gives."""

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.distributed.crew import enough_cores, on_ranks
from tests.distributed.test_gradients import HALVES, Step, build, cut, data, gradients
from tests.tiny_runs import assets
from uniemo import UniEmoError
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.sharding import gather, is_sharded, scatter, shard
from uniemo.models.uniemo import GenerationParts, UniEmoModel

pytestmark = pytest.mark.skipif(not enough_cores, reason="two processes need two cores")

CPU = torch.device("cpu")


def close(found, expected):
    """Whether gradients are equal but for rounding."""
    return all(torch.allclose(found[name], g, 1e-3, 1e-5 * float(g.abs().max())) for name, g in expected.items())


def test_a_sharded_unet_trains_and_generates_like_a_whole_one():
    whole = next(iter(data().train_dataloader()))
    module = build("joint")
    model, unet = module.model, module.model.diffusion.unet
    _, expected = gradients(module, Step(module), whole)
    with torch.no_grad():
        model.space.fit(model.fused_features(model.features(whole.images)), whole.emotion)
    weights = {int(whole.emotion[0]): 1.0}
    images = model.generate(weights, [0, 1, 2], steps=2)
    size = sum(parameter.numel() for parameter in unet.parameters())

    def member(rank):
        shard(unet, CPU)
        held = sum(parameter.to_local().numel() for parameter in unet.parameters())
        step = Step(module)
        step._ddp_params_and_buffers_to_ignore = [name for name, _ in step.named_parameters() if ".unet." in name]
        step = DistributedDataParallel(step)
        first = sum(HALVES[:rank])
        mine = cut(whole, first, first + HALVES[rank])
        _, before = gradients(module, step, mine)
        with torch.inference_mode():  # as Lightning validates
            gather(unet)
        drawn = model.generate(weights, [[0, 1], [2]][rank], steps=2, batch_size=1)  # unequally often
        scatter(unet)
        _, after = gradients(module, step, mine)
        return is_sharded(unet), held, before, drawn, after

    found = on_ranks(member)
    assert not is_sharded(unet)
    for sharded, held, before, _, after in found:
        assert sharded
        assert held <= 0.51 * size
        assert close(before, expected)
        assert close(after, expected)
    assert torch.allclose(torch.cat([part[3] for part in found]), images, atol=1e-4)


def test_adapters_are_not_shared_out():
    vocabulary = data().vocabulary
    parts = GenerationParts(diffusion=DiffusionConfig(path=str(assets() / "diffusion"), lora_rank=2))
    encoder = build("understanding").config.encoder
    unet = UniEmoModel.build(vocabulary, encoder, generation=parts).diffusion.unet
    with pytest.raises(UniEmoError, match="lora_rank must be 0"):
        shard(unet, CPU)
