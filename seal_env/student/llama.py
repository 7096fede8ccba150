"""Llama-shaped decoders (Llama, Qwen2, Mistral, ...), written for training and decoding many adapters at once.

The forward and backward passes are written out, without autograd: the base is frozen, so that no gradient of a base weight is
computed; products with the base are two-dimensional over all tokens of all adapters; projections that share an input share
one product; and every operation treats rows, or adapters, independently of each other. On the CPU in float32 with compiled
kernels (``native.py``) the result for one adapter is therefore the same to the last bit in any batch
(``tests/test_student_exact.py``); with PyTorch's products it is the same to about 1e-7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from seal_env.student.groups import Groups, Sequences, keep_rows, row_counts
from seal_env.student.layout import AdapterLayout, LoraTarget
from seal_env.student.network import DecodingSession, Network, TrainBatch
from seal_env.student.ops import MATH_ATTENTION_LENGTH, Attention, TorchOps
from seal_env.student.reading import PromptChunk, prompt_chunks

# Models whose decoder layers are exactly: RMSNorm, attention with rotary positions, RMSNorm, SwiGLU.
LLAMA_SHAPED = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM"})

# Labels whose logits are computed at a time: logits are the largest tensors by far, and stay in the CPU's cache this way.
LOSS_ROWS = 128
# Prompt tokens that are processed at a time, for the same reason.
READ_TOKENS = 1024
# Cache lengths that static decoding rounds up to.
STATIC_TIME = 64


class _Linear(NamedTuple):
    """A linear layer of a site, and its target; None if it is not adapted."""

    module: nn.Linear
    target: LoraTarget | None


class _SiteViews(NamedTuple):
    """Views of a site's adapters (or their gradients) in a buffer ``(groups, numel)``."""

    a: Tensor  # (groups, rank, in): the A matrices of all adapted layers, stacked
    b_t: list[Tensor]  # (groups, r, out): the transposed B of each adapted layer

    def narrow(self, adapters: slice) -> _SiteViews:
        return _SiteViews(self.a[adapters], [b_t[adapters] for b_t in self.b_t])


class _Site:
    """Linear layers with the same input; one product computes the A matrices of those that are adapted."""

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
        return _SiteViews(a, [target.b_t(buffer) for target in self.targets])

    def forward(
        self, ops: TorchOps, groups: Groups, x: Tensor, adapters: _SiteViews | None, residual: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """``x: (n, in)`` to each layer's output ``(n, out)``, plus ``residual``; also ``A x`` for the backward pass."""
        outputs = [ops.product(x, linear.module.weight, linear.module.bias, residual) for linear in self.linears]
        if adapters is None:
            return outputs, None
        h = ops.lora_down(groups, x, adapters.a)
        adapted = [y for y, linear in zip(outputs, self.linears) if linear.target is not None]
        for y, h_part, b_t, scaling in zip(adapted, self._split(h), adapters.b_t, self.scalings):
            ops.lora_up_(groups, y, h_part, b_t, scaling)
        return outputs, h

    def backward(
        self,
        ops: TorchOps,
        groups: Groups,
        d_outputs: list[Tensor],
        x: Tensor,
        h: Tensor | None,
        adapters: _SiteViews | None,
        grads: _SiteViews | None,
        need_dx: bool = True,
    ) -> Tensor | None:
        """Write the gradients of A and B into ``grads``; return the gradient of ``x``, ``(rows, in)``, if ``need_dx``."""
        dx = None
        if need_dx:
            for dy, linear in zip(d_outputs, self.linears):
                dx = ops.product_backward(dy, linear.module.weight, dx)
        if h is None or adapters is None or grads is None:
            return dx
        adapted = [dy for dy, linear in zip(d_outputs, self.linears) if linear.target is not None]
        dh = []
        for i, (dy, h_part, scaling) in enumerate(zip(adapted, self._split(h), self.scalings)):
            ops.lora_outer_(groups, grads.b_t[i], h_part, dy, scaling)
            dh.append(ops.lora_down(groups, dy, adapters.b_t[i], scaling))
        d_hidden = dh[0] if len(dh) == 1 else torch.cat(dh, dim=-1)
        ops.lora_outer_(groups, grads.a, d_hidden, x)
        if dx is not None:
            ops.lora_up_(groups, dx, d_hidden, adapters.a)
        return dx

    def _split(self, h: Tensor) -> tuple[Tensor, ...]:
        return h.split(self.ranks, dim=-1) if len(self.ranks) > 1 else (h,)


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
    """Activations of one layer for its backward pass."""

    x: Tensor
    x_rstd: Tensor
    x_normed: Tensor
    h_qkv: Tensor | None
    attention: Attention
    o_in: Tensor
    h_o: Tensor | None
    y: Tensor
    y_rstd: Tensor
    y_normed: Tensor
    h_gate_up: Tensor | None
    gate: Tensor
    up: Tensor
    down_in: Tensor
    h_down: Tensor | None


class LlamaNetwork(Network):
    """A Llama-shaped decoder with stacked adapters."""

    bfloat16_kernels = True

    @staticmethod
    def supports(model: PreTrainedModel) -> bool:
        """Whether ``model`` has such a decoder."""
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
        workspace = self._workspace(len(slots), state.shape[1])
        self.ops.gather_(workspace.adapters, state, slots)
        groups, sequences = Groups(batch.group_lengths, self.device), Sequences(batch.lengths, self.device)
        x = self.embedding(batch.tokens).to(self.dtype)
        saved = []
        for layer, views in zip(self.layers, workspace.views):
            x, activations = self._layer_forward(layer, groups, sequences, x, views)
            saved.append(activations)
        losses, dx = self._loss(x, batch)
        while saved:
            i = len(saved) - 1
            dx = self._layer_backward(self.layers[i], groups, dx, saved.pop(), workspace.views[i], need_dx=i > 0)
        return losses, workspace.grads

    def _workspace(self, groups: int, numel: int) -> _Workspace:
        if groups not in self._workspaces:
            if self._buffers is None or len(self._buffers[0]) < groups:
                self.release()  # before the new ones are allocated
                shape = (groups, numel)
                self._buffers = (
                    torch.empty(shape, dtype=self.dtype, device=self.device),
                    torch.empty(shape, device=self.device),
                )
            adapters, grads = self._buffers
            self._workspaces[groups] = _Workspace(self.layers, adapters[:groups], grads[:groups])
        return self._workspaces[groups]

    def release(self) -> None:
        self._buffers = None
        self._workspaces.clear()

    def _layer_forward(
        self, layer: _Layer, groups: Groups, sequences: Sequences, x: Tensor, views: _LayerViews
    ) -> tuple[Tensor, _Saved]:
        ops = self.ops
        x_normed, x_rstd = ops.rms_norm(x, layer.norm_1.weight, layer.norm_1.eps)
        (q, k, v), h_qkv = layer.qkv.forward(ops, groups, x_normed, views[0][0])
        o_in, attention = ops.attention(q, k, v, sequences, self.head_dim, self._rotary(sequences.longest))
        (y,), h_o = layer.o.forward(ops, groups, o_in, views[1][0], residual=x)
        y_normed, y_rstd = ops.rms_norm(y, layer.norm_2.weight, layer.norm_2.eps)
        (gate, up), h_gate_up = layer.gate_up.forward(ops, groups, y_normed, views[2][0])
        down_in = ops.swiglu(gate, up)
        (z,), h_down = layer.down.forward(ops, groups, down_in, views[3][0], residual=y)
        return z, _Saved(
            x, x_rstd, x_normed, h_qkv, attention, o_in, h_o, y, y_rstd, y_normed, h_gate_up, gate, up, down_in, h_down
        )  # fmt: skip

    def _layer_backward(
        self, layer: _Layer, groups: Groups, dz: Tensor, saved: _Saved, views: _LayerViews, need_dx: bool
    ) -> Tensor:
        """From the gradient of the layer's output, ``dz: (n, hidden)``, to that of its input, in place."""
        ops = self.ops
        d_down_in = layer.down.backward(ops, groups, [dz], saved.down_in, saved.h_down, *views[3])
        assert d_down_in is not None
        d_gate_up = ops.swiglu_backward(d_down_in, saved.gate, saved.up)
        d_normed = layer.gate_up.backward(ops, groups, list(d_gate_up), saved.y_normed, saved.h_gate_up, *views[2])
        assert d_normed is not None
        ops.rms_norm_backward_(dz, d_normed, saved.y, saved.y_rstd, layer.norm_2.weight)

        d_o_in = layer.o.backward(ops, groups, [dz], saved.o_in, saved.h_o, *views[1])
        assert d_o_in is not None
        d_qkv = list(saved.attention.backward(d_o_in))
        d_normed = layer.qkv.backward(ops, groups, d_qkv, saved.x_normed, saved.h_qkv, *views[0], need_dx=need_dx)
        if d_normed is not None:
            ops.rms_norm_backward_(dz, d_normed, saved.x, saved.x_rstd, layer.norm_1.weight)
        return dz

    def _loss(self, x: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Losses ``(groups,)`` and the gradient of the last layer's output ``x: (rows, hidden)``."""
        # Summed in float64, so that the order of the terms, which padding could change, has no effect in float32.
        losses = torch.zeros(len(batch.group_lengths), dtype=torch.float64, device=x.device)
        dx = torch.zeros_like(x)
        weight = self.head.weight
        parts = -(-len(batch.label_ids) // LOSS_ROWS)
        for positions, ids, weights, groups in zip(
            batch.label_positions.tensor_split(parts),
            batch.label_ids.tensor_split(parts),
            batch.label_weights.tensor_split(parts),
            batch.label_groups.tensor_split(parts),
        ):
            rows = x.index_select(0, positions)
            normed, rstd = self.ops.rms_norm(rows, self.norm.weight, self.norm.eps)
            nll, d_logits = self.ops.cross_entropy_(self.ops.product(normed, weight, self.head.bias), ids, weights)
            losses.index_add_(0, groups, (nll * weights).double())
            d_rows = torch.zeros_like(rows)
            self.ops.rms_norm_backward_(d_rows, self.ops.product_backward(d_logits, weight), rows, rstd, self.norm.weight)
            dx.index_copy_(0, positions, d_rows)
        return losses.float(), dx

    # Heads and positions --------------------------------------------------------------------------------------------

    def _normed(self, x: Tensor, norm: _Norm) -> Tensor:
        return self.ops.rms_norm(x, norm.weight, norm.eps)[0]

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
        return self.ops.attention_class(length)

    @property
    def ragged(self) -> int:
        return self.ops.ragged(self.head_dim)

    def training_bytes_per_token(self) -> int:
        config = self.model.config
        attention = self.heads * MATH_ATTENTION_LENGTH + 3 * (self.heads + self.kv_heads) * self.head_dim
        per_layer = 8 * config.hidden_size + 5 * config.intermediate_size + attention
        return self.dtype.itemsize * (config.num_hidden_layers * per_layer) + 12 * config.vocab_size

    # Decoding -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def token_log_probs(self, adapters: Tensor, adapter_of_row: list[int], tokens: Tensor) -> Tensor:
        session = _LlamaSession(self, adapters, adapter_of_row, capacity=tokens.shape[1])
        log_probs = tokens.new_zeros(len(tokens), tokens.shape[1] - 1, dtype=torch.float32)
        for chunk, hidden in session.read(tokens.tolist()):
            for row, prefix, before, start, length in chunk.spans:  # a row at a time: its logits are large
                own = torch.cat([hidden[prefix : prefix + before], hidden[start : start + length - 1]])
                log_softmax = torch.log_softmax(self.logits(own), -1, dtype=torch.float32)
                log_probs[row] = log_softmax.gather(1, tokens[row, 1:, None]).squeeze(1)
        return log_probs

    @torch.no_grad()
    def decode(
        self, adapters: Tensor, adapter_of_row: list[int], prompts: list[list[int]], max_new_tokens: int
    ) -> DecodingSession:
        longest = max(len(prompt) for prompt in prompts)
        session = _LlamaSession(self, adapters, adapter_of_row, longest + max_new_tokens)
        session.prompts = prompts
        return session

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``(n, vocabulary)`` of the last layer's output ``hidden: (n, hidden)``."""
        return self.ops.product(self._normed(hidden, self.norm), self.head.weight, self.head.bias)


class _StepGraph:
    """A decoding step as a CUDA graph, whose kernels are launched together: for small models launching takes longer than
    running.

    Args:
        session: the session before the step; it is not changed.
        tokens: of the step.
        longest: cache length of the graph.
    """

    def __init__(self, session: _LlamaSession, tokens: Tensor, longest: int) -> None:
        self.longest, self.tokens = longest, tokens.clone()
        lengths, stream = session.lengths.clone(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # allocations and choices of kernels that happen once must not be captured
            session.eager_step(self.tokens, longest)
            session.lengths.copy_(lengths)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = session.eager_step(self.tokens, longest)

    def __call__(self, tokens: Tensor) -> Tensor:
        """The next logits; they are overwritten by the next call."""
        self.tokens.copy_(tokens)
        self.graph.replay()
        return self.logits


class _LlamaSession(DecodingSession):
    """Rows begin at the left of the cache, and each writes at its own position, so that no row depends on another's length."""

    def __init__(self, network: LlamaNetwork, adapters: Tensor, adapter_of_row: list[int], capacity: int) -> None:
        self.network = network
        self.prompts: list[list[int]] = []
        self.capacity = capacity
        self._set_adapters(adapters.to(network.dtype), adapter_of_row)
        shape = (len(adapter_of_row), network.kv_heads, capacity, network.head_dim)
        empty = torch.zeros(0, dtype=network.dtype, device=network.device)
        self.cache = [(empty.new_zeros(shape), empty.new_zeros(shape)) for _ in network.layers]
        self.lengths = torch.zeros(len(adapter_of_row), dtype=torch.long, device=network.device)
        self._longest = 0  # max of lengths, known without a synchronization with the device
        self._graph: _StepGraph | None = None

    def _set_adapters(self, adapters: Tensor, adapter_of_row: list[int]) -> None:
        self.adapters, self.adapter_of_row = adapters, adapter_of_row
        self.groups = Groups(row_counts(adapter_of_row, len(adapters)), adapters.device)
        self.views = [[site.views(adapters) for site in layer.sites] for layer in self.network.layers]

    @torch.no_grad()
    def prefill(self) -> Tensor:
        lengths = [len(prompt) for prompt in self.prompts]
        self.lengths = torch.tensor(lengths, device=self.network.device)
        self._longest = max(lengths)
        rows, last = [], []
        for chunk, hidden in self.read(self.prompts):
            rows += chunk.rows
            last.append(hidden[torch.tensor(chunk.last_tokens, device=hidden.device)])
        logits = self.network.logits(torch.cat(last))
        return torch.empty_like(logits).index_copy_(0, torch.tensor(rows, device=logits.device), logits)

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        longest = self._longest
        if self.network.static_decoding:
            longest = min(self.capacity, (longest // STATIC_TIME + 1) * STATIC_TIME) - 1
        if self.network.static_decoding and tokens.device.type == "cuda":
            if self._graph is None or self._graph.longest != longest:
                self._graph = _StepGraph(self, tokens, longest)
            logits = self._graph(tokens)
        else:
            logits = self.eager_step(tokens, longest)
        self._longest += 1
        return logits

    def eager_step(self, tokens: Tensor, longest: int) -> Tensor:
        """The step, for caches of at most ``longest`` tokens. No operation on the host depends on tokens or lengths."""
        network, ops = self.network, self.network.ops
        x = network.embedding(tokens).to(network.dtype)
        rotary = network._rotary(self.capacity)
        for layer, views, (keys, values) in zip(network.layers, self.views, self.cache):
            (q, k, v), _ = layer.qkv.forward(ops, self.groups, network._normed(x, layer.norm_1), views[0])
            out = ops.attend_cached(q, k, v, keys, values, self.lengths, longest, rotary)
            x = self._finish(layer, self.groups, views, x, out)
        self.lengths += 1
        return network.logits(x)

    def keep(self, rows: Tensor) -> None:
        self._graph = None  # it is for the old tensors
        used, adapter_of_row = keep_rows(self.adapter_of_row, rows.tolist())
        self._set_adapters(self.adapters[used], adapter_of_row)
        self.cache = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.cache]
        self.lengths = self.lengths.index_select(0, rows)
        self._longest = int(self.lengths.max())

    def read(self, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[PromptChunk, Tensor]]:
        """Fill the cache with ``prompts``, one in each row; yields chunks and their hidden states ``(tokens, hidden)``."""
        shared = self.network.ops.shares_prefixes(self.network.head_dim)
        for chunk in prompt_chunks(prompts, self.adapter_of_row, READ_TOKENS, shared):
            yield chunk, self._read(chunk)

    def _read(self, chunk: PromptChunk) -> Tensor:
        network, ops, device = self.network, self.network.ops, self.network.device
        x = network.embedding(torch.tensor(chunk.tokens, device=device)).to(network.dtype)
        groups, sequences, entries = chunk.groups(device), chunk.sequences(device), chunk.entries().to(device)
        rotary = network._rotary(sequences.longest)
        for layer, views, (keys, values) in zip(network.layers, self.views, self.cache):
            used = [view and view.narrow(chunk.adapters) for view in views]
            (q, k, v), _ = layer.qkv.forward(ops, groups, network._normed(x, layer.norm_1), used[0])
            ops.fill_cache_(keys, values, k, v, entries, rotary)
            out, _ = ops.attention(q, k, v, sequences, network.head_dim, rotary)
            x = self._finish(layer, groups, used, x, out)
        return x

    def _finish(self, layer: _Layer, groups: Groups, views: list[_SiteViews | None], x: Tensor, out: Tensor) -> Tensor:
        """The layer after its attention: output projection, MLP and both residuals."""
        ops = self.network.ops
        (y,), _ = layer.o.forward(ops, groups, out, views[1], residual=x)
        (gate, up), _ = layer.gate_up.forward(ops, groups, self.network._normed(y, layer.norm_2), views[2])
        (z,), _ = layer.down.forward(ops, groups, ops.swiglu(gate, up), views[3], residual=y)
        return z
