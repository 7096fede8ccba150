"""Llama-shaped decoders (Llama, Qwen2, Mistral, ...), written for training and decoding many adapters at once.

The forward and backward passes are spelled out instead of left to autograd: the base is frozen, so no gradient of a base
weight is ever formed; products with the base are two-dimensional over all tokens of all adapters; projections that share
an input share one product; and every operation treats rows, or adapters, independently of their neighbours. On the CPU in
float32, at hidden sizes of a real model and with more than one thread, that makes the result for one adapter the same to
the last bit whoever shares the batch (``tests/test_student_exact.py``); at toy sizes it is the same to about 1e-7. Three
habits serve this: at least ``MIN_ROWS`` rows in a product (fewer take matrix-vector kernels that round differently),
attention by plain products up to ``MATH_ATTENTION_LENGTH`` tokens, and reductions only over padded zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from seal_env.student.layout import AdapterLayout, LoraTarget
from seal_env.student.network import DecodingSession, Network, RowMap, TrainBatch

# Class names of the models whose decoder layers are exactly: RMSNorm, attention with rotary positions, RMSNorm, SwiGLU.
LLAMA_SHAPED = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM"})

MIN_ROWS = 16
LOSS_ROWS = 128
MATH_ATTENTION_LENGTH = 256
# Above MATH_ATTENTION_LENGTH attention is PyTorch's; its CPU kernel changes block sizes (and so rounding) at 768 queries.
_SDPA_BLOCK_LENGTH = 768


class _Linear(NamedTuple):
    """One linear layer of a site, and what an adapter adds to it, if it is adapted."""

    module: nn.Linear
    target: LoraTarget | None


class _SiteViews(NamedTuple):
    """Where a site's adapters (or their gradients) stand in a buffer ``(groups, numel)``."""

    a: Tensor  # (groups, rank, in): the A matrices of all adapted layers under each other
    a_t: Tensor  # (groups, in, rank)
    b: list[Tensor]  # (groups, out, r) of each adapted layer
    b_t: list[Tensor]  # (groups, r, out)


class _DecodingWeights(NamedTuple):
    """A site's adapters for decoding: transposed copies, B scaled."""

    a: Tensor  # (adapters, in, rank)
    b: list[Tensor]  # (adapters, r, out) of each adapted layer

    def select(self, adapters: Tensor) -> _DecodingWeights:
        return _DecodingWeights(self.a.index_select(0, adapters), [b.index_select(0, adapters) for b in self.b])


class _Site:
    """Linear layers that read the same input; the A matrices of those that are adapted make one product with it."""

    def __init__(self, linears: list[tuple[str, nn.Linear]], layout: AdapterLayout) -> None:
        self.linears = [_Linear(module, layout.by_name.get(name)) for name, module in linears]
        self.targets = [linear.target for linear in self.linears if linear.target is not None]
        self.ranks = [target.r for target in self.targets]
        self.scalings = [target.scaling for target in self.targets]

    def views(self, buffer: Tensor) -> _SiteViews | None:
        if not self.targets:
            return None
        first = self.targets[0]
        a = buffer[:, first.a_offset : first.a_offset + sum(self.ranks) * first.in_features]
        a = a.unflatten(1, (sum(self.ranks), first.in_features))
        b = [target.b(buffer) for target in self.targets]
        return _SiteViews(a, a.transpose(1, 2), b, [part.transpose(1, 2) for part in b])

    def forward(
        self, x: Tensor, adapters: _SiteViews | None, residual: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """``x: (rows, in)`` to each layer's output ``(rows, out)``, plus ``residual``; also ``A x`` for the backward."""
        outputs = [_product(x, linear.module.weight, linear.module.bias, residual) for linear in self.linears]
        if adapters is None:
            return outputs, None
        groups = len(adapters.a)
        h = torch.bmm(x.view(groups, -1, x.shape[1]), adapters.a_t)
        adapted = [y for y, linear in zip(outputs, self.linears) if linear.target is not None]
        for y, h_part, b_t, scaling in zip(adapted, self._split(h), adapters.b_t, self.scalings):
            y.view(groups, -1, y.shape[1]).baddbmm_(h_part, b_t, alpha=scaling)
        return outputs, h

    def backward(
        self,
        d_outputs: list[Tensor],
        x: Tensor,
        h: Tensor | None,
        adapters: _SiteViews | None,
        grads: _SiteViews | None,
        need_dx: bool = True,
    ) -> Tensor | None:
        """Write the gradients of A and B into ``grads``; return the gradient of ``x``, ``(rows, in)``, if wanted."""
        dx = None
        if need_dx:
            dx = torch.mm(d_outputs[0], self.linears[0].module.weight)
            for dy, linear in zip(d_outputs[1:], self.linears[1:]):
                dx.addmm_(dy, linear.module.weight)
        if h is None or adapters is None or grads is None:
            return dx
        groups = len(adapters.a)
        adapted = [dy for dy, linear in zip(d_outputs, self.linears) if linear.target is not None]
        dh = []
        for i, (dy, h_part, scaling) in enumerate(zip(adapted, self._split(h), self.scalings)):
            dy3 = dy.view(groups, -1, dy.shape[1])
            torch.mul(torch.bmm(dy3.transpose(1, 2), h_part), scaling, out=grads.b[i])
            dh.append(torch.bmm(dy3, adapters.b[i]).mul_(scaling))
        d_hidden = dh[0] if len(dh) == 1 else torch.cat(dh, dim=-1)
        grads.a.copy_(torch.bmm(d_hidden.transpose(1, 2), x.view(groups, -1, x.shape[1])))
        if dx is not None:
            dx.view(groups, -1, dx.shape[1]).baddbmm_(d_hidden, adapters.a)
        return dx

    def _split(self, h: Tensor) -> tuple[Tensor, ...]:
        return h.split(self.ranks, dim=-1) if len(self.ranks) > 1 else (h,)

    def prepare(self, adapters: Tensor, dtype: torch.dtype) -> _DecodingWeights | None:
        """Copies of ``adapters: (n, numel)`` for :meth:`apply`."""
        views = self.views(adapters)
        if views is None:
            return None
        b = [(b_t * scaling).to(dtype).contiguous() for b_t, scaling in zip(views.b_t, self.scalings)]
        return _DecodingWeights(views.a_t.to(dtype).contiguous(), b)

    def apply(self, x: Tensor, adapters: _DecodingWeights | None, rows: RowMap, residual: Tensor | None = None) -> list[Tensor]:
        """Decoding: ``x: (rows, time, in)`` to each ``(rows, time, out)``, each row with its adapter, plus ``residual``."""
        flat = x.flatten(0, 1)
        residual = None if residual is None else residual.flatten(0, 1)
        outputs = [
            _product(flat, linear.module.weight, linear.module.bias, residual).unflatten(0, x.shape[:2])
            for linear in self.linears
        ]
        if adapters is not None:
            h = torch.bmm(rows.spread(x), adapters.a)
            adapted = [y for y, linear in zip(outputs, self.linears) if linear.target is not None]
            for y, h_part, b in zip(adapted, self._split(h), adapters.b):
                y.add_(rows.collect(torch.bmm(h_part, b), x.shape[1]))
        return outputs


_LayerViews = list[tuple["_SiteViews | None", "_SiteViews | None"]]  # of each site: adapters, gradients


class _Norm:
    """An RMSNorm's weight, ``(hidden,)``, and epsilon."""

    def __init__(self, module: Any) -> None:
        self.weight: Tensor = module.weight
        self.eps: float = module.variance_epsilon


class _Layer:
    """One decoder layer: its four sites and two norms."""

    def __init__(self, name: str, layer: nn.Module, layout: AdapterLayout) -> None:
        def site(parent: str, *names: str) -> _Site:
            module = getattr(layer, parent)
            return _Site([(f"{name}.{parent}.{n}", getattr(module, n)) for n in names], layout)

        self.qkv = site("self_attn", "q_proj", "k_proj", "v_proj")
        self.o = site("self_attn", "o_proj")
        self.gate_up = site("mlp", "gate_proj", "up_proj")
        self.down = site("mlp", "down_proj")
        self.sites = (self.qkv, self.o, self.gate_up, self.down)
        self.norm_1 = _Norm(layer.input_layernorm)
        self.norm_2 = _Norm(layer.post_attention_layernorm)


class _Workspace:
    """Buffers for the adapters of one step and their gradients, with every site's views of them."""

    def __init__(self, layers: list[_Layer], adapters: Tensor, grads: Tensor) -> None:
        self.adapters = adapters
        self.grads = grads
        self.views = [[(site.views(adapters), site.views(grads)) for site in layer.sites] for layer in layers]


class _Saved(NamedTuple):
    """What one layer's backward pass needs of its forward pass."""

    x: Tensor
    x_rstd: Tensor
    x_normed: Tensor
    h_qkv: Tensor | None
    attention: _Attention
    o_in: Tensor
    h_o: Tensor | None
    y: Tensor
    y_rstd: Tensor
    y_normed: Tensor
    h_gate_up: Tensor | None
    gate: Tensor
    up: Tensor
    silu_gate: Tensor
    down_in: Tensor
    h_down: Tensor | None


class LlamaNetwork(Network):
    """See the module's docstring."""

    @staticmethod
    def supports(model: PreTrainedModel) -> bool:
        """Whether ``model`` is one of the shapes written out here."""
        config = model.config
        return (
            type(model).__name__ in LLAMA_SHAPED
            and config.hidden_act == "silu"
            and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
            and not getattr(config, "sliding_window", None)
            and (config.rope_parameters or {}).get("rope_type", "default") in ("default", "linear", "llama3")
        )

    def __init__(self, model: PreTrainedModel, layout: AdapterLayout) -> None:
        super().__init__(model, layout)
        config, decoder = model.config, model.model
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.layers = [_Layer(f"model.layers.{i}", layer, layout) for i, layer in enumerate(decoder.layers)]
        self.embedding = decoder.embed_tokens
        self.norm = _Norm(decoder.norm)
        self.head = model.lm_head
        self._rotary_tables: dict[int, tuple[Tensor, Tensor]] = {}
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._workspaces: dict[int, _Workspace] = {}

    # Training -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def train_step(self, state: Tensor, slots: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        work = self._workspace(len(slots), state.shape[1])
        if state.dtype == work.adapters.dtype:
            torch.index_select(state, 0, slots, out=work.adapters)
        else:
            work.adapters.copy_(state.index_select(0, slots))
        x = self.embedding(batch.tokens.flatten())
        saved = []
        for layer, views in zip(self.layers, work.views):
            x, kept = self._layer_forward(layer, x, views, *batch.tokens.shape)
            saved.append(kept)
        losses, dx = self._loss(x, batch)
        while saved:
            i = len(saved) - 1
            dx = self._layer_backward(self.layers[i], dx, saved.pop(), work.views[i], need_dx=i > 0)
        return losses, work.grads

    def _workspace(self, groups: int, numel: int) -> _Workspace:
        if groups not in self._workspaces:
            if self._buffers is None or len(self._buffers[0]) < groups:
                shape = (groups, numel)
                self._buffers = (
                    torch.empty(shape, dtype=self.dtype, device=self.device),
                    torch.empty(shape, device=self.device),
                )
                self._workspaces.clear()
            adapters, grads = self._buffers
            self._workspaces[groups] = _Workspace(self.layers, adapters[:groups], grads[:groups])
        return self._workspaces[groups]

    def _layer_forward(self, layer: _Layer, x: Tensor, views: _LayerViews, rows: int, time: int) -> tuple[Tensor, _Saved]:
        x_normed, x_rstd = _rms_norm(x, layer.norm_1)
        qkv, h_qkv = layer.qkv.forward(x_normed, views[0][0])
        q, k, v = (self._heads_first(part.view(rows, time, -1)) for part in qkv)
        cos, sin = self._rotary(time)
        attention = _Attention(_rotate(q, cos, sin), _rotate(k, cos, sin), v.contiguous(), self.head_dim**-0.5)
        o_in = attention.output.transpose(1, 2).reshape(rows * time, -1)
        (y,), h_o = layer.o.forward(o_in, views[1][0], residual=x)
        y_normed, y_rstd = _rms_norm(y, layer.norm_2)
        (gate, up), h_gate_up = layer.gate_up.forward(y_normed, views[2][0])
        silu_gate = F.silu(gate)
        down_in = silu_gate * up
        (z,), h_down = layer.down.forward(down_in, views[3][0], residual=y)
        return z, _Saved(
            x, x_rstd, x_normed, h_qkv, attention, o_in, h_o, y, y_rstd, y_normed, h_gate_up, gate, up, silu_gate,
            down_in, h_down,
        )  # fmt: skip

    def _layer_backward(self, layer: _Layer, dz: Tensor, kept: _Saved, views: _LayerViews, need_dx: bool) -> Tensor:
        """Turn the gradient of the layer's output, ``dz: (rows, hidden)``, into that of its input, in place."""
        d_down_in = layer.down.backward([dz], kept.down_in, kept.h_down, *views[3])
        assert d_down_in is not None
        d_up = kept.silu_gate.mul_(d_down_in)
        d_gate = torch.ops.aten.silu_backward(d_down_in.mul_(kept.up), kept.gate)
        d_normed = layer.gate_up.backward([d_gate, d_up], kept.y_normed, kept.h_gate_up, *views[2])
        assert d_normed is not None
        _rms_norm_backward_(dz, d_normed, kept.y, kept.y_normed, kept.y_rstd, layer.norm_2.weight)

        d_o_in = layer.o.backward([dz], kept.o_in, kept.h_o, *views[1])
        assert d_o_in is not None
        rows, heads, time, head_dim = kept.attention.output.shape
        dq, dk, dv = kept.attention.backward(d_o_in.view(rows, time, heads, head_dim).transpose(1, 2))
        d_qkv = [dz.new_empty(rows, time, n * head_dim) for n in (heads, self.kv_heads, self.kv_heads)]
        into_q, into_k, into_v = (self._heads_first(part) for part in d_qkv)
        cos, sin = self._rotary(time)
        _rotate(dq, cos, sin, inverse=True, out=into_q)
        _rotate(dk, cos, sin, inverse=True, out=into_k)
        into_v.copy_(dv)
        d_normed = layer.qkv.backward(
            [part.flatten(0, 1) for part in d_qkv], kept.x_normed, kept.h_qkv, *views[0], need_dx=need_dx
        )
        if d_normed is not None:
            _rms_norm_backward_(dz, d_normed, kept.x, kept.x_normed, kept.x_rstd, layer.norm_1.weight)
        return dz

    def _loss(self, x: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Losses ``(groups,)`` and the gradient of the last layer's output ``x: (rows, hidden)``.

        Taken ``LOSS_ROWS`` labels at a time: logits are the largest tensors by far, and stay in the cache this way.
        """
        # Summed in float64: the order of the terms, which padding could change, no longer shows in float32.
        losses = torch.zeros(batch.groups, dtype=torch.float64, device=x.device)
        dx = torch.zeros_like(x)
        weight = self.head.weight
        pieces = -(-len(batch.label_ids) // LOSS_ROWS)
        for positions, ids, weights, groups in zip(
            batch.label_positions.tensor_split(pieces),
            batch.label_ids.tensor_split(pieces),
            batch.label_weights.tensor_split(pieces),
            batch.label_groups.tensor_split(pieces),
        ):
            rows = x.index_select(0, positions)
            normed, rstd = _rms_norm(rows, self.norm)
            logits = _product(normed, weight, self.head.bias)
            probs = torch.softmax(logits, dim=-1, dtype=torch.float32)
            at_label = probs.gather(1, ids[:, None])
            losses.index_add_(0, groups, (at_label.log().squeeze(1) * -weights).double())
            probs.scatter_(1, ids[:, None], at_label - 1.0).mul_(weights[:, None])
            d_rows = torch.zeros_like(rows)
            _rms_norm_backward_(d_rows, torch.mm(probs.to(self.dtype), weight), rows, normed, rstd, self.norm.weight)
            dx.index_copy_(0, positions, d_rows)
        return losses.float(), dx

    # Heads and positions --------------------------------------------------------------------------------------------

    def _heads_first(self, x: Tensor) -> Tensor:
        """``(rows, time, heads * head_dim)`` as a view ``(rows, heads, time, head_dim)``."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _rotary(self, time: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions 0 to ``time - 1``, each ``(time, head_dim / 2)``."""
        size = 1 << max(6, (time - 1).bit_length())
        if size not in self._rotary_tables:
            positions = torch.arange(size, device=self.device)[None]
            probe = torch.empty(0, dtype=self.dtype, device=self.device)
            cos, sin = self.model.model.rotary_emb(probe, position_ids=positions)
            half = self.head_dim // 2
            self._rotary_tables[size] = cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
        cos, sin = self._rotary_tables[size]
        return cos[:time], sin[:time]

    def length_class(self, length: int) -> int:
        return (length > MATH_ATTENTION_LENGTH) + (length >= _SDPA_BLOCK_LENGTH)

    def training_bytes_per_token(self) -> int:
        config = self.model.config
        attention = self.heads * MATH_ATTENTION_LENGTH + 3 * (self.heads + self.kv_heads) * self.head_dim
        per_layer = 8 * config.hidden_size + 5 * config.intermediate_size + attention
        return self.dtype.itemsize * (config.num_hidden_layers * per_layer) + 12 * config.vocab_size

    # Decoding -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def token_log_probs(self, adapters: Tensor, adapter_of_row: Tensor, tokens: Tensor) -> Tensor:
        session = _LlamaSession(self, adapters, adapter_of_row, cache_length=tokens.shape[1])
        hidden = session.read(tokens)
        log_probs = []
        for row, ids in zip(hidden, tokens):  # a row at a time: logits of all would be the largest tensor by far
            logits = _product(_rms_norm(row[:-1].contiguous(), self.norm)[0], self.head.weight, self.head.bias)
            log_probs.append(torch.log_softmax(logits, -1, dtype=torch.float32).gather(1, ids[1:, None]).squeeze(1))
        return torch.stack(log_probs)

    @torch.no_grad()
    def decode(
        self, adapters: Tensor, adapter_of_row: Tensor, prompts: list[list[int]], max_new_tokens: int
    ) -> DecodingSession:
        longest = max(len(prompt) for prompt in prompts)
        session = _LlamaSession(self, adapters, adapter_of_row, longest + max_new_tokens)
        session.prompts = prompts
        return session


class _LlamaSession(DecodingSession):
    """Rows lie flush left in the cache, each writing at its own position, so that no row depends on another's length."""

    def __init__(self, network: LlamaNetwork, adapters: Tensor, adapter_of_row: Tensor, cache_length: int) -> None:
        self.network = network
        self.adapter_of_row = adapter_of_row
        self.prompts: list[list[int]] = []
        self.weights = [[site.prepare(adapters, network.dtype) for site in layer.sites] for layer in network.layers]
        self.adapters = len(adapters)
        self.rows = RowMap(adapter_of_row, self.adapters)
        shape = (len(adapter_of_row), network.kv_heads, cache_length, network.head_dim)
        empty = torch.zeros(0, dtype=network.dtype, device=network.device)
        self.cache = [(empty.new_zeros(shape), empty.new_zeros(shape)) for _ in network.layers]
        self.lengths = torch.zeros(len(adapter_of_row), dtype=torch.long, device=network.device)
        self._longest = 0  # max of lengths, without asking the device

    @torch.no_grad()
    def prefill(self) -> Tensor:
        lengths = [len(prompt) for prompt in self.prompts]
        tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
        for row, prompt in zip(tokens, self.prompts):
            row[: len(prompt)] = torch.tensor(prompt)
        hidden = self.read(tokens.to(self.network.device))
        self.lengths = torch.tensor(lengths, device=self.network.device)
        self._longest = max(lengths)
        return self._logits(hidden[torch.arange(len(lengths), device=hidden.device), self.lengths - 1])

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        network = self.network
        x = network.embedding(tokens)[:, None]
        row = torch.arange(len(tokens), device=x.device)
        cos, sin = (table.index_select(0, self.lengths)[:, None, None] for table in network._rotary(self._longest + 1))
        time = self._longest + 1
        mask = torch.arange(time, device=x.device) > self.lengths[:, None]
        mask = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill_(mask, float("-inf"))
        for layer, weights, (keys, values) in zip(network.layers, self.weights, self.cache):
            qkv = layer.qkv.apply(_rms_norm(x, layer.norm_1)[0], weights[0], self.rows)
            q, k, v = (network._heads_first(part) for part in qkv)
            keys[row, :, self.lengths] = _rotate(k, cos, sin).squeeze(2)
            values[row, :, self.lengths] = v.squeeze(2)
            out = _attend_cached(_rotate(q, cos, sin).squeeze(2), keys[:, :, :time], values[:, :, :time], mask)
            x = self._finish(layer, weights, x, out[:, None])
        self.lengths += 1
        self._longest += 1
        return self._logits(x.squeeze(1))

    def keep(self, rows: Tensor) -> None:
        adapter_of_row = self.adapter_of_row.index_select(0, rows)
        used, self.adapter_of_row = torch.unique_consecutive(adapter_of_row, return_inverse=True)
        self.weights = [[site and site.select(used) for site in layer] for layer in self.weights]
        self.rows = RowMap(self.adapter_of_row, len(used))
        self.cache = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.cache]
        self.lengths = self.lengths.index_select(0, rows)
        self._longest = int(self.lengths.max())

    def read(self, tokens: Tensor) -> Tensor:
        """Hidden states ``(rows, time, hidden)`` of ``tokens: (rows, time)``, whose keys and values fill the cache."""
        network, time = self.network, tokens.shape[1]
        x = network.embedding(tokens)
        cos, sin = network._rotary(time)
        for layer, weights, (keys, values) in zip(network.layers, self.weights, self.cache):
            qkv = layer.qkv.apply(_rms_norm(x, layer.norm_1)[0], weights[0], self.rows)
            q, k, v = (network._heads_first(part) for part in qkv)
            k = _rotate(k, cos, sin)
            keys[:, :, :time], values[:, :, :time] = k, v
            attention = _Attention(_rotate(q, cos, sin), k, v.contiguous(), network.head_dim**-0.5)
            x = self._finish(layer, weights, x, attention.output.transpose(1, 2).flatten(2))
        return x

    def _finish(self, layer: _Layer, weights: list[_DecodingWeights | None], x: Tensor, out: Tensor) -> Tensor:
        """The layer after its attention: output projection, MLP and both residuals."""
        (y,) = layer.o.apply(out, weights[1], self.rows, residual=x)
        gate, up = layer.gate_up.apply(_rms_norm(y, layer.norm_2)[0], weights[2], self.rows)
        (z,) = layer.down.apply(F.silu(gate).mul_(up), weights[3], self.rows, residual=y)
        return z

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.network.head
        return _product(_rms_norm(hidden, self.network.norm)[0], head.weight, head.bias)


class _Attention:
    """Causal attention of ``q: (rows, heads, time, head_dim)`` over ``k, v: (rows, kv_heads, time, head_dim)``.

    Plain products while they are short enough for their memory (and then faster than PyTorch's CPU kernel); beyond
    that, and on CUDA, ``scaled_dot_product_attention``.
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        self.shape, self.scale = q.shape, scale
        rows, heads, time, head_dim = q.shape
        self.fused = time > MATH_ATTENTION_LENGTH or q.device.type == "cuda"
        if self.fused:
            with torch.enable_grad():
                self.inputs = tuple(tensor.detach().requires_grad_() for tensor in (q, k, v))
                self.output = self._sdpa(*self.inputs)
            return
        # Query heads that share a key-value head stand under each other: (rows * kv_heads, shared * time, head_dim).
        self.q = q.reshape(rows * k.shape[1], -1, head_dim)
        self.k, self.v = k.reshape(-1, time, head_dim), v.reshape(-1, time, head_dim)
        mask = _causal_mask(time, self.q.shape[1] // time, q.dtype, q.device)
        scores = torch.baddbmm(mask, self.q, self.k.transpose(1, 2), alpha=scale)
        self.probs = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
        self.output = torch.bmm(self.probs, self.v).view(self.shape)

    def _sdpa(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        time = q.shape[2]
        if q.device.type == "cpu" and time % 16:  # its vector tails round differently
            q, k, v = (F.pad(tensor, (0, 0, 0, -time % 16)) for tensor in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale, enable_gqa=q.shape[1] != k.shape[1])
        return out[:, :, :time]

    def backward(self, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v, in their shapes."""
        if self.fused:
            dq, dk, dv = torch.autograd.grad(self.output, self.inputs, d_output)
            return dq, dk, dv
        rows, heads, time, head_dim = self.shape
        d_out = d_output.reshape(self.q.shape)
        d_probs = torch.bmm(d_out, self.v.transpose(1, 2))
        dv = torch.bmm(self.probs.transpose(1, 2), d_out)
        d_scores = torch.ops.aten._softmax_backward_data(d_probs, self.probs, -1, self.probs.dtype).mul_(self.scale)
        dq = torch.bmm(d_scores, self.k)
        dk = torch.bmm(d_scores.transpose(1, 2), self.q)
        kv_shape = (rows, -1, time, head_dim)
        return dq.view(self.shape), dk.view(kv_shape), dv.view(kv_shape)


_MASKS: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}


def _causal_mask(time: int, repeats: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    key = (MATH_ATTENTION_LENGTH, dtype, device)
    if key not in _MASKS:
        _MASKS[key] = torch.full(key[:1] * 2, float("-inf"), dtype=dtype, device=device).triu_(1)
    mask = _MASKS[key][:time, :time]
    return mask if repeats == 1 else mask.repeat(repeats, 1)


def _attend_cached(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """One new token a row: ``q: (rows, heads, head_dim)`` over the cache, ``(rows, heads * head_dim)``."""
    rows, kv_heads, time, head_dim = keys.shape
    q = q.reshape(rows * kv_heads, -1, head_dim)
    shared = q.shape[1]
    if shared == 1:  # twice, to stay clear of matrix-vector kernels
        q = q.expand(-1, 2, -1)
    keys, values = keys.reshape(-1, time, head_dim), values.reshape(-1, time, head_dim)
    mask = mask[:, None, None].expand(-1, kv_heads, 1, -1).reshape(rows * kv_heads, 1, time)
    scores = torch.baddbmm(mask, q, keys.transpose(1, 2), alpha=head_dim**-0.5)
    probs = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
    return torch.bmm(probs, values)[:, :shared].reshape(rows, -1)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias + residual`` for ``x: (rows, in)``, never with fewer than ``MIN_ROWS`` rows."""
    rows = len(x)
    if rows < MIN_ROWS:
        x = F.pad(x, (0, 0, 0, MIN_ROWS - rows))
        residual = None if residual is None else F.pad(residual, (0, 0, 0, MIN_ROWS - rows))
    if residual is None:
        y = torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())
    else:
        y = torch.addmm(residual, x, weight.t())
        y = y if bias is None else y.add_(bias)
    return y[:rows] if len(y) > rows else y


def _rms_norm(x: Tensor, norm: _Norm) -> tuple[Tensor, Tensor]:
    """The normed ``x: (..., hidden)`` and the reciprocal root mean square of each row, ``(..., 1)`` in float32."""
    size = x.shape[-1]
    # rsqrt(mean(x^2) + eps), with one pass over x and two over its row norms.
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    rstd = torch.addcmul(norms.new_tensor(norm.eps * size), norms, norms).rsqrt_().mul_(size**0.5)
    return (x * rstd).to(x.dtype).mul_(norm.weight), rstd


def _rms_norm_backward_(dx: Tensor, d_normed: Tensor, x: Tensor, normed: Tensor, rstd: Tensor, weight: Tensor) -> None:
    """Add the gradient of a norm's input to ``dx: (rows, hidden)``, given that of its output."""
    along = torch.linalg.vecdot(d_normed.float(), normed.float())[:, None].mul_(rstd * rstd).div_(-x.shape[-1])
    dx.addcmul_(d_normed.mul_(weight), rstd.to(dx.dtype)).addcmul_(x, along.to(dx.dtype))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, inverse: bool = False, out: Tensor | None = None) -> Tensor:
    """Rotary positions: turn each pair (i, i + head_dim / 2) of ``x: (rows, heads, time, head_dim)`` by its angle."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
    x1, x2 = x.chunk(2, dim=-1)
    out1, out2 = out.chunk(2, dim=-1)
    sign = -1.0 if inverse else 1.0
    torch.mul(x1, cos, out=out1).addcmul_(x2, sin, value=-sign)
    torch.mul(x2, cos, out=out2).addcmul_(x1, sin, value=sign)
    return out
