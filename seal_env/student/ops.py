"""The operations of a Llama-shaped network with stacked adapters, for any device and precision.

:class:`TorchOps` defines them in PyTorch; :class:`~seal_env.student.native.NativeOps` computes the same on the CPU in float32
with compiled kernels. Shapes: ``n`` rows are all tokens of all adapters, sorted by adapter
(:class:`~seal_env.student.groups.Groups`). Operations whose name ends in an underscore write into their first argument.
"""

from __future__ import annotations

from ctypes import CDLL
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from seal_env.student.groups import Groups, Sequences

Rotary = tuple[Tensor, Tensor]  # cosines and sines, (time, head_dim / 2)

# A product of fewer rows may fall into a matrix-vector kernel, which rounds differently.
_MIN_ROWS = 16
MATH_ATTENTION_LENGTH = 256
# Longer attention is PyTorch's fused kernel; its CPU version changes block sizes (and so rounding) at 768 queries.
_SDPA_BLOCK_LENGTH = 768


class Attention(Protocol):
    """State of :meth:`TorchOps.attention` for its backward pass."""

    def backward(self, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of ``q``, ``k`` and ``v`` in their shapes, given that of the output, ``(n, heads * head_dim)``."""


class TorchOps:
    """The operations in PyTorch.

    Attributes:
        library: the compiled kernels; None here.
        dtype: of activations and adapters; None: that of the weights.
    """

    library: CDLL | None = None
    dtype: torch.dtype | None = None

    @property
    def description(self) -> str:
        """What the rounding of the results depends on."""
        return "torch"

    def gather_(self, out: Tensor, state: Tensor, slots: Tensor) -> None:
        """Copy rows ``slots`` of ``state: (slots, numel)`` into ``out: (groups, numel)``, in the precision of ``out``."""
        out.copy_(state.index_select(0, slots))

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """``x @ weight.T + bias + residual`` for ``x: (n, in)`` and ``weight: (out, in)``."""
        rows = len(x)
        if rows < _MIN_ROWS:
            x = F.pad(x, (0, 0, 0, _MIN_ROWS - rows))
            residual = None if residual is None else F.pad(residual, (0, 0, 0, _MIN_ROWS - rows))
        if residual is None:
            y = torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())
        else:
            y = torch.addmm(residual, x, weight.t())
            y = y if bias is None else y.add_(bias)
        return y[:rows] if len(y) > rows else y

    def product_backward(self, dy: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        """``dy @ weight`` for ``dy: (n, out)``; added to ``onto: (n, in)``, in place, if that is given."""
        return torch.mm(dy, weight) if onto is None else onto.addmm_(dy, weight)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """The normed ``x: (..., hidden)`` and the reciprocal root mean square of each row, ``(..., 1)`` in float32."""
        size = x.shape[-1]
        # rsqrt(mean(x^2) + eps), with one pass over x and two over its row norms.
        norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        # new_full and not new_tensor, which waits for a copy to the device.
        rstd = torch.addcmul(norms.new_full((), eps * size), norms, norms).rsqrt_().mul_(size**0.5)
        return (x * rstd).to(x.dtype).mul_(weight), rstd

    def rms_norm_backward_(self, dx: Tensor, d_normed: Tensor, x: Tensor, rstd: Tensor, weight: Tensor) -> None:
        """Add the gradient of a norm's input ``x: (n, hidden)`` to ``dx``, given the gradient of its output."""
        scaled = d_normed * weight
        along = torch.linalg.vecdot(scaled.float(), x.float())[:, None].mul_(rstd.pow(3)).div_(-x.shape[-1])
        dx.addcmul_(scaled, rstd.to(dx.dtype)).addcmul_(x, along.to(dx.dtype))

    def ragged(self, head_dim: int) -> int:
        """Longest sequences of different lengths that may share an :meth:`attention`; 0: they must be equally long."""
        return 0

    def shares_prefixes(self, head_dim: int) -> int:
        """Longest sequences in an :meth:`attention` that continue rows of another sequence; 0: none may."""
        return 0

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, sequences: Sequences, head_dim: int, rotary: Rotary
    ) -> tuple[Tensor, Attention]:
        """Causal attention within each sequence with rotary positions, ``(n, heads * head_dim)``.

        ``q: (n, heads * head_dim)`` and ``k, v: (n, kv_heads * head_dim)`` are not rotated yet.
        """
        attention = _TorchAttention(q, k, v, sequences.shape, head_dim, rotary)
        return heads_last(attention.output), attention

    def attention_class(self, length: int) -> int:
        """Sequences of one class may share a batch without changing each other's rounding."""
        return (length > MATH_ATTENTION_LENGTH) + (length >= _SDPA_BLOCK_LENGTH)

    def fill_cache_(self, keys: Tensor, values: Tensor, k: Tensor, v: Tensor, entries: Tensor, rotary: Rotary) -> None:
        """Write ``k`` and ``v``, ``(n, kv_heads * head_dim)``, to the cache ``keys, values: (rows, kv_heads, capacity,
        head_dim)``; an entry ``(token, row, position)`` of ``entries: (count, 3)`` says which and where.
        """
        token, row, position = entries.unbind(1)
        shape = (len(token), keys.shape[1], keys.shape[3])
        cos, sin = (table.index_select(0, position)[:, None, :] for table in rotary)
        keys[row, :, position] = rotate(k.index_select(0, token).view(shape), cos, sin)
        values[row, :, position] = v.index_select(0, token).view(shape)

    def attend_cached(
        self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, longest: int, rotary: Rotary
    ) -> Tensor:
        """One new token a row, ``q: (rows, heads * head_dim)``, over the row's cache; ``(rows, heads * head_dim)``.

        ``k`` and ``v`` are first written to the cache ``keys, values: (rows, kv_heads, capacity, head_dim)`` at ``lengths:
        (rows,)``. ``longest`` is the greatest length, and ``rotary`` covers the whole capacity.
        """
        rows, kv_heads, _, head_dim = keys.shape
        cos, sin = (table.index_select(0, lengths)[:, None, :] for table in rotary)
        row = torch.arange(rows, device=q.device)
        keys[row, :, lengths] = rotate(k.view(rows, kv_heads, head_dim), cos, sin)
        values[row, :, lengths] = v.view(rows, kv_heads, head_dim)
        time = longest + 1
        mask = torch.arange(time, device=q.device) > lengths[:, None]
        mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(mask, float("-inf"))
        q = rotate(q.view(rows, -1, head_dim), cos, sin).reshape(rows * kv_heads, -1, head_dim)
        shared = q.shape[1]
        if shared == 1:  # twice, to stay clear of matrix-vector kernels
            q = q.expand(-1, 2, -1)
        keys, values = (cache[:, :, :time].reshape(-1, time, head_dim) for cache in (keys, values))
        mask = mask[:, None, None].expand(-1, kv_heads, 1, -1).reshape(rows * kv_heads, 1, time)
        scores = torch.bmm(q, keys.transpose(1, 2)).mul_(head_dim**-0.5).add_(mask)
        probs = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
        return torch.bmm(probs, values)[:, :shared].reshape(rows, -1)

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """``silu(gate) * up``."""
        return F.silu(gate).mul_(up)

    def swiglu_backward(self, d_out: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ``gate`` and ``up``; overwrites all three arguments."""
        d_up = F.silu(gate).mul_(d_out)
        return torch.ops.aten.silu_backward(d_out.mul_(up), gate), d_up

    def cross_entropy_(self, logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log-likelihoods ``(n,)`` in float32, and ``weights`` times their gradient, ``(n, vocabulary)``."""
        probs = torch.softmax(logits, dim=-1, dtype=torch.float32)
        at_label = probs.gather(1, labels[:, None])
        probs.scatter_(1, labels[:, None], at_label - 1.0).mul_(weights[:, None])
        return at_label.log().neg_().squeeze(1), probs.to(logits.dtype)

    def lora_down(self, groups: Groups, x: Tensor, w: Tensor, scale: float = 1.0) -> Tensor:
        """``scale * x w^T`` of each adapter: ``x: (n, d)``, ``w: (adapters, rank, d)`` to ``(n, rank)``."""
        h = groups.collect(torch.bmm(groups.spread(x), w.transpose(1, 2)))
        return h if scale == 1.0 else h.mul_(scale)

    def lora_up_(self, groups: Groups, y: Tensor, h: Tensor, w: Tensor, scale: float = 1.0) -> None:
        """``y: (n, d) += scale * h w`` of each adapter; ``h: (n, rank)`` may be a slice of columns."""
        y.add_(groups.collect(torch.bmm(groups.spread(h.contiguous()), w)), alpha=scale)

    def lora_outer_(self, groups: Groups, out: Tensor, h: Tensor, x: Tensor, scale: float = 1.0) -> None:
        """``out: (adapters, rank, d) = scale * h^T x``; all adapters must have the same number of rows here."""
        product = torch.bmm(h.unflatten(0, (len(out), -1)).transpose(1, 2), x.view(len(out), -1, x.shape[1]))
        torch.mul(product, scale, out=out)

    def grad_norms(self, grads: Tensor) -> Tensor:
        """L2 norms ``(groups,)`` of the rows of ``grads: (groups, numel)``, in float64."""
        # One row at a time: its rounding must not depend on how many others there are.
        return torch.stack([torch.linalg.vector_norm(grad) for grad in grads]).double()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: rotate each pair (i, i + head_dim / 2) of ``x: (..., head_dim)`` by its angle."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    x1, x2 = x.chunk(2, dim=-1)
    out1, out2 = out.chunk(2, dim=-1)
    torch.mul(x1, cos, out=out1).addcmul_(x2, sin, value=-1.0)
    torch.mul(x2, cos, out=out2).addcmul_(x1, sin)
    return out


def heads_first(flat: Tensor, shape: tuple[int, int], head_dim: int) -> Tensor:
    """``(n, heads * head_dim)`` as a view ``(rows, heads, time, head_dim)``, ``shape`` being ``(rows, time)``."""
    return flat.view(*shape, -1, head_dim).transpose(1, 2)


def heads_last(x: Tensor) -> Tensor:
    """``(rows, heads, time, head_dim)`` to ``(n, heads * head_dim)``."""
    return x.transpose(1, 2).reshape(x.shape[0] * x.shape[2], -1)


class _TorchAttention:
    """Plain products for short sequences, where they are faster than PyTorch's CPU kernel; ``scaled_dot_product_attention`` for
    longer ones, whose probabilities would take too much memory, and on CUDA.
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, shape: tuple[int, int], head_dim: int, rotary: Rotary) -> None:
        self.rotary, self.scale, time = rotary, head_dim**-0.5, shape[1]
        q, k = (rotate(heads_first(x, shape, head_dim), *rotary) for x in (q, k))
        v = heads_first(v, shape, head_dim).contiguous()
        self.shape = q.shape
        self.fused = time > MATH_ATTENTION_LENGTH or q.device.type == "cuda"
        if self.fused:
            with torch.enable_grad():
                self.inputs = tuple(tensor.detach().requires_grad_() for tensor in (q, k, v))
                self.fused_output = self._sdpa(*self.inputs)
            self.output = self.fused_output.detach()
            return
        # Query heads that share a key-value head stand under each other: (rows * kv_heads, shared * time, head_dim).
        self.q = q.reshape(shape[0] * k.shape[1], -1, head_dim)
        self.k, self.v = k.reshape(-1, time, head_dim), v.reshape(-1, time, head_dim)
        mask = _causal_mask(time, self.q.shape[1] // time, q.dtype, q.device)
        scores = torch.baddbmm(mask, self.q, self.k.transpose(1, 2), alpha=self.scale)
        self.probs = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
        self.output = torch.bmm(self.probs, self.v).view(self.shape)

    def _sdpa(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        time = q.shape[2]
        if q.device.type == "cpu" and time % 16:  # its vector tails round differently
            q, k, v = (F.pad(tensor, (0, 0, 0, -time % 16)) for tensor in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale, enable_gqa=q.shape[1] != k.shape[1])
        return out[:, :, :time]

    def backward(self, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, heads, time, head_dim = self.shape
        d_out = heads_first(d_output, (rows, time), head_dim)
        if self.fused:
            dq, dk, dv = torch.autograd.grad(self.fused_output, self.inputs, d_out)
        else:
            d_out = d_out.reshape(self.q.shape)
            d_probs = torch.bmm(d_out, self.v.transpose(1, 2))
            dv = torch.bmm(self.probs.transpose(1, 2), d_out)
            d_scores = torch.ops.aten._softmax_backward_data(d_probs, self.probs, -1, self.probs.dtype).mul_(self.scale)
            dq = torch.bmm(d_scores, self.k).view(self.shape)
            kv_shape = (rows, -1, time, head_dim)
            dk, dv = torch.bmm(d_scores.transpose(1, 2), self.q).view(kv_shape), dv.view(kv_shape)
        cos, sin = self.rotary
        return heads_last(rotate(dq, cos, -sin)), heads_last(rotate(dk, cos, -sin)), heads_last(dv)


_MASKS: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def _causal_mask(time: int, repeats: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if (dtype, device) not in _MASKS:
        size = (MATH_ATTENTION_LENGTH, MATH_ATTENTION_LENGTH)
        _MASKS[dtype, device] = torch.full(size, float("-inf"), dtype=dtype, device=device).triu_(1)
    mask = _MASKS[dtype, device][:time, :time]
    return mask if repeats == 1 else mask.repeat(repeats, 1)
