import numpy as np
import torch

from uniemo.models.interactive import InteractiveBlock, ReleasedInteractiveBlock

WIDTH, HEADS = 8, 2


def random_tokens(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, WIDTH, generator=generator), torch.randn(2, 1 + 5, WIDTH, generator=generator)


def shaken(module):
    """Every parameter away from its special first value."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def layer_norm(x, norm):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.eps)
    return x * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def linear(x, layer):
    y = x @ layer.weight.detach().numpy().T
    return y if layer.bias is None else y + layer.bias.detach().numpy()


def attend(queries, keys, attention):
    """Multi-head attention of one sample, head by head; returns result and mean map."""
    q, k, v = linear(queries, attention.q_proj), linear(keys, attention.k_proj), linear(keys, attention.v_proj)
    size = WIDTH // HEADS
    out, maps = [], []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T / np.sqrt(size)
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        out.append(weights @ v[:, part])
        maps.append(weights)
    return linear(np.concatenate(out, axis=1), attention.proj), np.mean(maps, axis=0)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(__import__("math").erf)(x / np.sqrt(2)))


def test_paper_block_is_equations_2_and_3():
    block = shaken(InteractiveBlock(WIDTH, HEADS, num_layers=2))
    queries, tokens = random_tokens()
    result, maps = block(queries, tokens, attention=True)
    for sample in range(2):
        start = queries[sample].double().numpy()
        patches = tokens[sample, 1:].double().numpy()  # the class token is not read
        refined = start
        for layer in block.layers:
            read, shown = attend(
                layer_norm(refined, layer.norm_query), layer_norm(patches, layer.norm_keys), layer.cross_attn
            )
            refined = refined + read  # eq. 2, first line
            hidden = gelu(linear(layer_norm(refined, layer.norm_mlp), layer.mlp[0]))
            refined = refined + linear(hidden, layer.mlp[2])  # eq. 2, second line
        expected = start + block.beta.detach().numpy() * refined  # eq. 3
        assert np.allclose(result[sample].detach().numpy(), expected, atol=1e-5)
        assert np.allclose(maps[sample].detach().numpy(), shown, atol=1e-6)


def test_released_block_is_the_released_arithmetic():
    block = shaken(ReleasedInteractiveBlock(WIDTH, HEADS))
    queries, tokens = random_tokens()
    result, maps = block(queries, tokens, attention=True)
    for sample in range(2):
        q = queries[sample].double().numpy()
        v = layer_norm(tokens[sample].double().numpy(), block.norm)
        read, shown = attend(layer_norm(q, block.norm1), v, block.cross_attn)
        q = q + read
        hidden = linear(layer_norm(q, block.norm3), block.mlp[0])
        q = q + linear(hidden / (1 + np.exp(-1.702 * hidden)), block.mlp[3])
        assert np.allclose(result[sample].detach().numpy(), q, atol=1e-5)
        without_cls = shown[:, 1:] / shown[:, 1:].sum(axis=1, keepdims=True)
        assert np.allclose(maps[sample].detach().numpy(), without_cls, atol=1e-6)
