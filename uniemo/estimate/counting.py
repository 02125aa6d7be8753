"""Networks that have shapes and no numbers, and what running them takes: bytes alive and floating-point operations.

PyTorch's fake tensors give each operation's shapes and types without computing it. The bytes of every tensor are
counted from its making to its end; the highest sum is what the arithmetic asks for at once. Attention is the
memory-efficient one; under mixed precision normalisation works in float32, as it does on a GPU.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_ATEN = torch.ops.aten


class ShapesAlone(FakeTensorMode):
    """Fake tensors; where code asks a tensor for its number, it gets 1."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run an operation on shapes."""
        if func is _ATEN._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        return super().__torch_dispatch__(func, types, args, kwargs)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive.

    Attributes:
        now: bytes alive.
        peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run an operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        self.add(made)
        return made

    def add(self, tensors: Any) -> None:  # noqa: ANN401 - any nest of them
        """Count tensors from now to their end; those that share their memory count once."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                storage = tensor.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._end, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)

    def _end(self, address: int, size: int) -> None:
        self._alive.discard(address)
        self.now -= size


@contextlib.contextmanager
def shapes_alone() -> Iterator[None]:
    """Make every tensor in this block one without numbers."""
    with (
        ShapesAlone(),
        patch("torch.nn.Module._apply", _convert),
        patch("torch.nn.functional.group_norm", _in_float32(F.group_norm)),
        patch("torch.nn.functional.layer_norm", _in_float32(F.layer_norm)),
    ):
        yield


@torch.no_grad()
def _convert(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Move or convert a module's tensors; torch's own way, which swaps them in place, is not for fake ones."""
    made: dict[int, nn.Parameter] = {}  # weights that are shared stay shared
    for part in module.modules() if recurse else [module]:
        for name, weight in part._parameters.items():
            if weight is None:
                continue
            if id(weight) not in made:
                new = fn(weight)
                made[id(weight)] = weight if new is weight else nn.Parameter(new, weight.requires_grad)
            part._parameters[name] = made[id(weight)]
        part._buffers.update({name: fn(value) for name, value in part._buffers.items() if value is not None})
    return module


def _in_float32(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a normalisation that works in float32 under mixed precision, whatever it is given."""

    def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        if not torch.is_autocast_enabled("cpu"):
            return norm(x, *args, **kwargs)
        weights = [given.float() if isinstance(given, Tensor) else given for given in args]
        return norm(x.float(), *weights, **kwargs)

    return run


def operations() -> FlopCounterMode:
    """Return a counter of floating-point operations in products, convolutions and attention, two for each product."""

    def forward(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:  # noqa: ANN401
        return sdpa_flop_count(query, key, value)

    def backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:  # noqa: ANN401
        return sdpa_backward_flop_count(grad, query, key, value)

    attention = {  # of the CPU, where the shapes run; those of GPUs are known to the counter
        _ATEN._scaled_dot_product_flash_attention_for_cpu: forward,
        _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    return FlopCounterMode(display=False, custom_mapping=attention)
