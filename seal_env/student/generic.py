"""Any Hugging Face causal LM with stacked adapters: its own forward pass, forward hooks that add the adapters, and autograd."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.utils import ModelOutput

from seal_env.student.groups import Groups, keep_rows, row_counts
from seal_env.student.layout import AdapterLayout, LoraTarget
from seal_env.student.network import DecodingSession, Network, TrainBatch


class GenericNetwork(Network):
    """Adds ``scaling * B (A x)`` to the output of every target layer through forward hooks.

    Sequences are padded on the right for training, which does not affect a causal model. Prompts are padded on the left for
    decoding if the model masks padding in all layers and takes position ids; otherwise (recurrent and convolutional layers,
    positions that depend on the batch) only prompts of one length are decoded together.

    Raises:
        ValueError: in a forward pass, the input of a target is not one vector for each token.
    """

    def __init__(self, model: PreTrainedModel, layout: AdapterLayout) -> None:
        super().__init__(model, layout)
        self.parameters = frozenset(inspect.signature(model.forward).parameters)
        # Longer sequences rotate all positions by other angles ("longrope"); None: angles do not depend on the length.
        self.rope_switch = _rope_switch(model)
        self.pads_prompts = self.rope_switch is None and "position_ids" in self.parameters and _masks_padding(model)

    @contextmanager
    def use(self, adapters: Tensor, counts: list[int], time: int) -> Iterator[set[str]]:
        """Context in which rows of ``time`` tokens pass through their adapters, ``counts[i]`` adjacent rows through the i-th.

        Yields the names of the targets that were called.
        """
        called: set[str] = set()
        add = _AddAdapters(self.layout, adapters, counts, time, called)
        hooks = [
            self.model.get_submodule(target.name).register_forward_hook(functools.partial(add, target))
            for target in self.layout.targets
        ]
        try:
            yield called
        finally:
            for hook in hooks:
                hook.remove()

    def train_step(self, state: Tensor, slots: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            adapters = state.index_select(0, slots).requires_grad_()
            tokens = batch.tokens.view(len(batch.lengths), -1)
            counts = [len(tokens) // len(adapters)] * len(adapters)
            with self.use(adapters, counts, tokens.shape[1]):
                logits, _ = logits_at(
                    self.model,
                    lambda x: x.flatten(0, 1).index_select(0, batch.label_positions)[None],
                    input_ids=tokens,
                    use_cache=False,
                )
            nll = F.cross_entropy(logits[0].float(), batch.label_ids, reduction="none")
            losses = torch.zeros(len(adapters), device=nll.device).index_add(0, batch.label_groups, nll * batch.label_weights)
            (grads,) = torch.autograd.grad(losses.sum(), adapters)
        return losses.detach(), grads

    @torch.no_grad()
    def token_log_probs(self, adapters: Tensor, adapter_of_row: list[int], tokens: Tensor) -> Tensor:
        with self.use(adapters, row_counts(adapter_of_row, len(adapters)), tokens.shape[1]):
            logits = self.model(input_ids=tokens, use_cache=False).logits[:, :-1]
        return torch.log_softmax(logits.float(), -1).gather(2, tokens[:, 1:, None]).squeeze(2)

    def decode(
        self, adapters: Tensor, adapter_of_row: list[int], prompts: list[list[int]], max_new_tokens: int
    ) -> DecodingSession:
        return _GenericSession(self, adapters, adapter_of_row, prompts)

    def prompt_class(self, length: int) -> int:
        return 0 if self.pads_prompts else length

    def length_class(self, length: int) -> int:
        return 0 if self.rope_switch is None else int(length > self.rope_switch)

    def training_bytes_per_token(self) -> int:
        config = self.model.config.get_text_config(decoder=True)
        layers, hidden = getattr(config, "num_hidden_layers", 1), getattr(config, "hidden_size", 1)
        return self.dtype.itemsize * layers * 40 * hidden + 16 * self.model.get_input_embeddings().weight.shape[0]


def logits_at(model: PreTrainedModel, pick: Callable[[Tensor], Tensor], **inputs: Any) -> tuple[Tensor, Tensor | None]:
    """Logits of ``model`` at some positions only.

    The head's input is replaced by these positions, so that the model's own code computes all that follows (soft caps, scales,
    multipliers).

    Args:
        model: a causal LM.
        pick: selects positions, ``(rows, time, features)`` to ``(a, b, features)``.
        inputs: of the model's forward pass.

    Returns:
        Logits ``(a, b, vocabulary)`` and the head's input ``(a, b, hidden_size)`` at these positions; the input is None if the
        model computes logits without calling its head.
    """
    head, picked = model.get_output_embeddings(), list[Tensor]()

    def replace(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        picked.append(pick(arguments[0]))
        return (picked[-1], *arguments[1:])

    hook = None if head is None else head.register_forward_pre_hook(replace)
    try:
        logits = model(**inputs).logits
    finally:
        if hook is not None:
            hook.remove()
    return (logits, picked[-1]) if picked else (pick(logits), None)


class Head:
    """The head of a causal LM, apart from its decoder, for logits of many positions in several calls.

    The model's own code computes all that follows the head (soft caps, scales, multipliers).

    Args:
        model: a causal LM.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._decoded: ModelOutput | None = None  # the decoder's last output, cut to one position

    def inputs(self, pick: Callable[[Tensor], Tensor], **inputs: Any) -> Tensor:
        """Inputs of the head at some positions, ``(a, b, hidden_size)``; the logits of one position only are computed.

        Args:
            pick: selects positions, ``(rows, time, hidden_size)`` to ``(a, b, hidden_size)``.
            inputs: of the model's forward pass.

        Raises:
            ValueError: the model computes its logits without calling its head.
        """
        picked, decoder = list[Tensor](), self.model.base_model

        def first(x: Tensor) -> Tensor:
            picked.append(pick(x))
            return x[:1, :1]

        def keep(_: nn.Module, arguments: object, output: Any) -> None:
            if isinstance(output, ModelOutput) and "last_hidden_state" in output:
                self._decoded = dataclasses.replace(output, last_hidden_state=output["last_hidden_state"][:1, :1].detach())

        hook = None if decoder is self.model else decoder.register_forward_hook(keep)
        try:
            _, called = logits_at(self.model, first, **inputs)
        finally:
            if hook is not None:
                hook.remove()
        if called is None:
            raise ValueError(f"{type(self.model).__name__} computes its logits without a head, and cannot be a policy")
        return picked[-1]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``(n, vocabulary)`` of inputs of the head ``(n, hidden_size)``.

        The decoder does not run again. If the model has no decoder module, all of it runs on one token.
        """
        token = torch.zeros(1, 1, dtype=torch.long, device=hidden.device)
        with self._without_decoder():
            return logits_at(self.model, lambda _: hidden[None], input_ids=token, use_cache=False)[0][0]

    @contextmanager
    def _without_decoder(self) -> Iterator[None]:
        """Within: the decoder returns its last output."""
        if self._decoded is None:
            yield
            return
        attributes = vars(self.model.base_model)
        wrapper = attributes.get("forward")  # of a library that dispatches modules
        attributes["forward"] = lambda *_, **__: self._decoded
        try:
            yield
        finally:
            if wrapper is None:
                del attributes["forward"]
            else:
                attributes["forward"] = wrapper


class _AddAdapters:
    """A forward hook of each target: adds the adapters' output to the layer's.

    The adapters are split once, so that the backward pass joins the gradients of all targets once. Inputs are
    ``(rows * time, features)`` or ``(rows, ..., features)``, with ``time`` vectors in a row or, in a layer that also reads a
    cache, more.
    """

    def __init__(self, layout: AdapterLayout, adapters: Tensor, counts: list[int], time: int, called: set[str]) -> None:
        self._counts, self._rows, self._time, self._called = counts, sum(counts), time, called
        self._parts = layout.split(adapters)
        self._groups: dict[int, Groups] = {}

    def __call__(self, target: LoraTarget, module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        self._called.add(target.name)
        x = arguments[0]
        if len(x) != (self._rows if x.dim() > 2 else self._rows * self._time):
            raise ValueError(
                f"the input of {target.name!r} has shape {tuple(x.shape)} for {self._rows} rows of {self._time} tokens, so that"
                " its vectors cannot be assigned to adapters: remove it from target_modules"
            )
        vectors = x.shape[1:-1].numel() if x.dim() > 2 else self._time  # in a row
        if vectors not in self._groups:
            self._groups[vectors] = Groups([count * vectors for count in self._counts], x.device)
        groups = self._groups[vectors]
        a, b_t = (part.to(x.dtype) for part in self._parts[target.name])
        h = torch.bmm(groups.spread(x.reshape(-1, target.in_features)), a.transpose(1, 2))
        return output + groups.collect(torch.bmm(h, b_t) * target.scaling).view_as(output)


class _GenericSession(DecodingSession):
    """Rows are padded on the left, as caches of Transformers need it."""

    def __init__(self, network: GenericNetwork, adapters: Tensor, adapter_of_row: list[int], prompts: list[list[int]]) -> None:
        self.network = network
        self.adapters = adapters
        self.adapter_of_row = adapter_of_row
        self.counts = row_counts(adapter_of_row, len(adapters))
        longest = max(len(prompt) for prompt in prompts)
        tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        self.tokens = tokens.to(network.device)
        self.mask = mask.to(network.device)
        self.cache = DynamicCache(config=network.model.config)

    def prefill(self) -> Tensor:
        return self._forward(self.tokens, (self.mask.cumsum(1) - 1).clamp(min=0))

    def step(self, tokens: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        if self.network.rope_switch is not None:
            self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
            if self.tokens.shape[1] == self.network.rope_switch + 1:  # all earlier positions rotate: process everything again
                self.cache = DynamicCache(config=self.network.model.config)
                return self.prefill()
        return self._forward(tokens[:, None], self.mask.sum(1, keepdim=True) - 1)

    def keep(self, rows: Tensor) -> None:
        used, self.adapter_of_row = keep_rows(self.adapter_of_row, rows.tolist())
        self.adapters = self.adapters[used]
        self.counts = row_counts(self.adapter_of_row, len(used))
        self.mask = self.mask.index_select(0, rows)
        self.tokens = self.tokens.index_select(0, rows)
        self.cache.reorder_cache(rows)  # unlike batch_select_indices it supports all kinds of layers

    @torch.no_grad()
    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        network = self.network
        inputs: dict[str, Any] = {"input_ids": tokens, "use_cache": True}
        if network.pads_prompts:
            inputs["attention_mask"] = self.mask
        inputs["cache_params" if "cache_params" in network.parameters else "past_key_values"] = self.cache
        if "position_ids" in network.parameters:
            inputs["position_ids"] = positions
        with network.use(self.adapters, self.counts, tokens.shape[1]):
            logits, _ = logits_at(network.model, lambda x: x[:, -1:], **inputs)
        return logits[:, -1]


_decodable: weakref.WeakSet[PreTrainedModel] = weakref.WeakSet()  # models that passed check_usable


@torch.no_grad()
def check_usable(network: GenericNetwork) -> None:
    """Check that the model calls all targets, and that decoding with its cache, also after a row has left, gives the right
    logits.

    Raises:
        ValueError: an adapter would have no effect, or answers would be wrong; the message says why.
    """
    model = network.model
    first = model.get_input_embeddings().weight.shape[0] // 2
    rows = torch.tensor(
        [[first, first + 1, first + 2, first + 3], [first + 2, first, first + 3, first + 1]], device=model.device
    )
    adapters = torch.zeros(1, network.layout.numel, device=model.device)
    try:
        with network.use(adapters, [2], 4) as called:
            expected = model(input_ids=rows, use_cache=False).logits.float()
        missed = [target.name for target in network.layout.targets if target.name not in called]
        if missed:
            ends = sorted({".".join(name.split(".")[-2:]) for name in missed})
            raise ValueError(
                f"it does not call {missed[0]!r}, so that its adapter would have no effect: use"
                f' lora={{"exclude_modules": {json.dumps(ends)}, ...}}'
            )
        if model in _decodable:
            return
        session = network.decode(adapters, [0, 0], rows[:, :3].tolist(), 1)
        prompts = session.prefill().float()
        session.keep(torch.tensor([1], device=model.device))
        after = session.step(rows[1:, 3]).float()
        # Relative errors: right caches have up to 0.01 in bfloat16, more if rounding sends a token to another expert; wrong
        # caches have 0.3 and more.
        tolerance = 0.02 if network.dtype == torch.float32 else 0.15
        for logits, reference in ((prompts, expected[:, 2]), (after, expected[1:, 3])):
            error = (logits - reference).norm() / (reference - reference.mean(-1, keepdim=True)).norm()
            if error > tolerance:  # False for weights that are not finite, which are no error of the cache
                raise ValueError(
                    "decoding with its cache gives other logits than one pass over the text; only causal language models with a"
                    " cache of keys and values or of recurrent states are supported"
                )
    except Exception as error:  # from anywhere inside the model
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise ValueError(f"{type(model).__name__} cannot be a student or a policy: {reason}") from error
    _decodable.add(model)


def _rope_switch(model: PreTrainedModel) -> int | None:
    """The longest sequence with a rotary embedding's short factors; None if it has one set of factors."""
    parameters = getattr(model.config.get_text_config(decoder=True), "rope_parameters", None) or {}
    lengths = [
        rope["original_max_position_embeddings"]
        for rope in (parameters, *parameters.values())  # for all layers, or by the type of layer
        if isinstance(rope, dict) and rope.get("rope_type") == "longrope"
    ]
    return min(lengths, default=None)


def _masks_padding(model: PreTrainedModel) -> bool:
    """Whether padding on the left is masked in all layers: all are attention with an ordinary cache, in code of
    Transformers.
    """
    layers = DynamicCache(config=model.config).layers
    if not type(model).__module__.startswith("transformers.") or any(isinstance(m, nn.Conv1d) for m in model.modules()):
        return False
    return all(isinstance(layer, DynamicLayer) and not hasattr(layer, "recurrent_states") for layer in layers)
