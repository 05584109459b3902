"""A training step of a network without its numbers: what it would compute and how much memory it would take.

Every operation is dispatched with shapes alone (torch's fake tensors), so a network of any size is rehearsed
in seconds, by the code that trains it, and nothing about its architecture need be known.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from openvla_toolkit.core.errors import UserError

__all__ = ["Part", "Rehearsals", "Rehearsed", "rehearse", "stored_bytes"]

_FOUR_BITS = 0.5 + 4 / 64 / 4
"""Bytes of a parameter in 4 bits with its share of the scales, one for 64, themselves quantised."""
_aten = torch.ops.aten
_BY_INDEX = (_aten.index.Tensor, _aten.index_put_.default, _aten._index_put_impl_.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What forward and backward pass of one micro-batch take."""

    activations: int
    """Bytes at the peak besides parameters, gradients and optimizer state."""
    with_gradients: int
    """Bytes at the peak of activations and those gradients that are there at that time."""
    flops: int
    """Floating-point operations of matrices, convolutions and attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One micro-batch, as a module's ``rehearse`` takes it."""

    samples: int
    text: int
    """Tokens of prompt and answer together."""
    learned: int
    """Of these, the ones that are learned."""
    pictures: int = 1
    """Of each sample."""


def rehearse(
    outline: nn.Module, part: Part, *, bf16: bool, computed_twice: bool, in_bf16: bool = False
) -> Rehearsed:
    """Rehearse one micro-batch of a module on the meta device.

    Args:
        outline: offers ``rehearse(samples=, text=, learned=, pictures=)``, its loss over blank samples; a
            mask that chooses tokens in there chooses those that are learned.
        part: what is rehearsed.
        bf16: whether arithmetic is in bf16 (autocast).
        computed_twice: whether its blocks are computed again in the backward pass.
        in_bf16: whether the parameters it computes with are bf16 (an engine that gathers casts them before).

    Raises:
        UserError: the policy cannot be rehearsed.
    """
    rehearsed: Any = getattr(outline, "rehearse", None)
    if rehearsed is None:
        raise UserError(
            f"{type(outline).__name__} cannot be rehearsed without its weights: it has no 'rehearse'."
        )
    counter = _Counter(chosen=part.samples * part.learned)
    with FakeTensorMode(), _blocks(outline, twice=computed_twice), _faked(outline, in_bf16=in_bf16):
        for tensor in (*outline.parameters(), *outline.buffers()):
            counter.know(tensor)
        for parameter in outline.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(counter.gradient)  # type: ignore[no-untyped-call]
        with counter:
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                loss = rehearsed(**asdict(part))
            loss.backward()
    return Rehearsed(
        activations=counter.peak, with_gradients=counter.peak_with_gradients, flops=counter.flops
    )


class Rehearsals:
    """The rehearsals of one module, each made once."""

    def __init__(self, outline: nn.Module, *, told: Callable[[str], None] | None = None) -> None:
        self.outline = outline
        self._told = told
        self._made: dict[tuple[Part, bool, bool, bool], Rehearsed] = {}

    def of(self, part: Part, *, bf16: bool, computed_twice: bool, in_bf16: bool) -> Rehearsed:
        """Return what ``rehearse`` finds, which tells before it takes its seconds."""
        key = (part, bf16, computed_twice, in_bf16)
        if key not in self._made:
            if self._told is not None:
                self._told(f"rehearsing a pass of {part.samples} samples")
            self._made[key] = rehearse(
                self.outline, part, bf16=bf16, computed_twice=computed_twice, in_bf16=in_bf16
            )
        return self._made[key]


def stored_bytes(parameter: nn.Parameter) -> float:
    """Return what a parameter takes; one that becomes 4 bits on its device counts as that."""
    four = type(parameter).__name__ == "Params4bit"
    return parameter.numel() * (_FOUR_BITS if four else parameter.element_size())


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the memory of every tensor while it lives, and the operations."""

    def __init__(self, *, chosen: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self.peak_with_gradients = self.flops = 0
        self._chosen = chosen
        self._live: dict[int, int] = {}
        self._bytes = self._gradients = 0

    def know(self, tensor: Tensor) -> None:
        """Take a tensor for one that is counted elsewhere."""
        self._live[tensor.untyped_storage()._cdata] = 0

    def gradient(self, parameter: Tensor) -> None:
        """Count a parameter's gradient as one, and no longer as an activation."""
        assert parameter.grad is not None
        key = parameter.grad.untyped_storage()._cdata
        size = self._live.get(key, 0)
        self._live[key] = 0
        self._bytes -= size
        self._gradients += size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation on shapes, and count."""
        answer = self._by_mask(func, args)
        out = func(*args, **(kwargs or {})) if answer is None else answer
        self._count(func, args, kwargs or {}, out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        self.peak = max(self.peak, self._bytes)
        self.peak_with_gradients = max(self.peak_with_gradients, self._bytes + self._gradients)
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = size = storage.nbytes()
        self._bytes += size
        weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self._bytes -= self._live.pop(key, 0)

    def _by_mask(self, func: Any, args: Any) -> Any:
        """Answer for choices by a mask, since shapes alone do not say how much it chooses; else None."""
        if func not in _BY_INDEX or not any(
            index is not None and index.dtype == torch.bool for index in args[1]
        ):
            return None
        if func is not _aten.index.Tensor:
            return args[0]  # written to
        (mask,) = args[1]
        return args[0].new_empty((self._chosen, *args[0].shape[mask.ndim :]))

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        packet = func._overloadpacket
        name = str(packet)
        if "_scaled_dot_product" in name:
            shapes = [tensor.shape for tensor in args[:4]]
            counted: Any = sdpa_backward_flop_count if "backward" in name else sdpa_flop_count
            self.flops += counted(*shapes if "backward" in name else shapes[:3])
        elif packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=out)


class _FourBits(torch.autograd.Function):
    """A linear layer whose weight is made from few bits where it is needed, in both passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: int) -> Tensor:
        """Map [..., in] to [..., ``width``]."""
        ctx.shape = (width, x.shape[-1])
        return x @ x.new_empty(ctx.shape).t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on; the weight has none."""
        return gradients[0] @ gradients[0].new_empty(ctx.shape), None


@contextmanager
def _faked(module: nn.Module, *, in_bf16: bool) -> Iterator[None]:
    """Give a module tensors that have shape, type and device but no numbers; afterwards it has its own."""
    made: dict[int, Tensor] = {}
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    layers: list[Any] = []

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            kind = torch.bfloat16 if in_bf16 and tensor.is_floating_point() else tensor.dtype
            empty = torch.empty(tensor.shape, dtype=kind)
            trained = tensor.requires_grad
            made[id(tensor)] = nn.Parameter(empty, trained) if isinstance(tensor, nn.Parameter) else empty
        return made[id(tensor)]

    part: Any
    for part in module.modules():
        if type(getattr(part, "weight", None)).__name__ == "Params4bit":
            layers.append(part)
            part.forward = partial(_few_bits, part.out_features)
        for own in (part._parameters, part._buffers):
            kept.append((own, dict(own)))
            own.update({name: fake(tensor) for name, tensor in own.items() if tensor is not None})
    try:
        yield
    finally:
        for own, before in kept:
            own.update(before)
        for layer in layers:
            del layer.forward


def _few_bits(width: int, x: Tensor) -> Tensor:
    return _FourBits.apply(x.to(torch.bfloat16), width).to(x.dtype)  # type: ignore[no-any-return,no-untyped-call]


@contextmanager
def _blocks(module: nn.Module, *, twice: bool) -> Iterator[None]:
    """Have a module's blocks computed again in the backward pass, as engines do."""
    offered: Any = getattr(module, "shard_units", list)
    units = list(offered()) if twice else []
    for unit in units:
        unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for unit in units:
            del unit.forward
