"""Any Hugging Face causal LM as a network of stacked adapters: its own forward pass, hooks that add the adapters, autograd."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from seal_env.student.groups import Groups, keep_rows, row_counts
from seal_env.student.layout import AdapterLayout, LoraTarget
from seal_env.student.network import DecodingSession, Network, TrainBatch


class GenericNetwork(Network):
    """Adds ``scaling * B (A x)`` to the output of every target layer through forward hooks."""

    def __init__(self, model: PreTrainedModel, layout: AdapterLayout) -> None:
        super().__init__(model, layout)
        self._active: tuple[Tensor, Callable[[int], Groups]] | None = None
        for target in layout.targets:
            model.get_submodule(target.name).register_forward_hook(self._hook(target))

    def _hook(self, target: LoraTarget) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def add_adapters(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self._active is None:
                return output
            adapters, groups_at = self._active
            x = args[0]
            groups = groups_at(x.shape[1])
            a, b = target.a(adapters).to(x.dtype), target.b(adapters).to(x.dtype)
            h = torch.bmm(groups.spread(x.flatten(0, 1)), a.transpose(1, 2))
            return output + groups.collect(torch.bmm(h, b.transpose(1, 2)) * target.scaling).view_as(output)

        return add_adapters

    @contextmanager
    def use(self, adapters: Tensor, counts: list[int]) -> Iterator[None]:
        """Within: rows of a batch pass through their adapters, ``counts[i]`` neighbouring rows through the i-th."""
        self._active = (adapters, functools.cache(lambda time: Groups([n * time for n in counts], adapters.device)))
        try:
            yield
        finally:
            self._active = None

    def train_step(self, state: Tensor, slots: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            adapters = state.index_select(0, slots).requires_grad_()
            tokens = batch.tokens.view(len(batch.lengths), -1)
            with self.use(adapters, [len(tokens) // len(adapters)] * len(adapters)):
                logits = self.model(input_ids=tokens, use_cache=False).logits.flatten(0, 1)
            nll = F.cross_entropy(logits[batch.label_positions].float(), batch.label_ids, reduction="none")
            losses = torch.zeros(len(adapters), device=nll.device).index_add(0, batch.label_groups, nll * batch.label_weights)
            (grads,) = torch.autograd.grad(losses.sum(), adapters)
        return losses.detach(), grads

    @torch.no_grad()
    def token_log_probs(self, adapters: Tensor, adapter_of_row: list[int], tokens: Tensor) -> Tensor:
        with self.use(adapters, row_counts(adapter_of_row, len(adapters))):
            logits = self.model(input_ids=tokens, use_cache=False).logits[:, :-1]
        return torch.log_softmax(logits.float(), -1).gather(2, tokens[:, 1:, None]).squeeze(2)

    def decode(
        self, adapters: Tensor, adapter_of_row: list[int], prompts: list[list[int]], max_new_tokens: int
    ) -> DecodingSession:
        return _GenericSession(self, adapters, adapter_of_row, prompts)

    def training_bytes_per_token(self) -> int:
        config = self.model.config.get_text_config(decoder=True)
        return self.dtype.itemsize * config.num_hidden_layers * 40 * config.hidden_size + 16 * config.vocab_size


class _GenericSession(DecodingSession):
    """Rows lie flush right (padded on the left), as Hugging Face caches want them."""

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
        return self._forward(tokens[:, None], self.mask.sum(1, keepdim=True) - 1)

    def keep(self, rows: Tensor) -> None:
        used, self.adapter_of_row = keep_rows(self.adapter_of_row, rows.tolist())
        self.adapters = self.adapters[used]
        self.counts = row_counts(self.adapter_of_row, len(used))
        self.mask = self.mask.index_select(0, rows)
        self.cache.batch_select_indices(rows)

    @torch.no_grad()
    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        with self.network.use(self.adapters, self.counts):
            return self.network.model(
                input_ids=tokens,
                attention_mask=self.mask,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
