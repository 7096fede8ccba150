"""The model that is updated: a frozen causal LM, with many LoRA adapters that are trained and decoded together."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from peft import LoraConfig
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from seal_env.chat import common_prefix, encodable, end_token_ids, prompt_ids
from seal_env.student import checkpoint
from seal_env.student.decode import Answer, Sampling, answer_log_likelihoods, decode
from seal_env.student.fit import EncodedExample, EncodedUpdate, FitResult, FitStatus, InnerLoop
from seal_env.student.generic import GenericNetwork, check_usable
from seal_env.student.groups import keep_rows
from seal_env.student.layout import AdapterLayout, adapter_layout
from seal_env.student.llama import LlamaNetwork
from seal_env.student.loading import load_base
from seal_env.student.memory import available_bytes, free_cached, is_out_of_memory, keep_freed_memory
from seal_env.student.network import Network
from seal_env.update import SEAL_LORA, Example, TokenExample, Update

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# Tokens in one training batch, and what starting one costs in tokens; measured by `seal-bench speed`.
_STEP_TOKENS = {"cpu": 768, "cuda": 16384}
_OVERHEAD_TOKENS = {"cpu": 110, "cuda": 2048}
_MAX_SLOTS = 256
_READ_EVERY = 16  # steps of training or decoding that are launched on a GPU before their results are read
# Names of the longest sequence in configurations.
_LENGTHS = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "context_length")
_MAX_ANSWER_ROWS = 512


class Student:
    """A frozen base model that trains, decodes with, saves and merges LoRA adapters.

    An adapter is one float32 vector; many are a tensor ``(adapters, numel)``. The student keeps none: :meth:`fit` takes initial
    adapters and returns trained ones, so that the result of an update is a function of the update, the initial adapter and the
    base.

    Args:
        model: a causal LM; it is frozen and put into evaluation mode. Llama-shaped models run on :class:`LlamaNetwork`, all
            others on :class:`GenericNetwork`.
        tokenizer: its tokenizer.
        lora: the adapters' configuration. ``target_modules=None`` is PEFT's default for the architecture (``q_proj`` and
            ``v_proj`` for Llama and Qwen2, as in SEAL).
        network: ``"auto"``, or force ``"llama"`` or ``"generic"``.
        max_slots: most adapters in training at once; by default as many as fit into memory, at most 256.
        keep_memory: on the CPU, let the C library keep freed memory (see :func:`keep_freed_memory`).
        static_decoding: decode Llama-shaped models with the same tensor shapes for many steps, as CUDA graphs on a GPU. Off by
            default because it has not been measured on a GPU yet.

    Raises:
        ValueError: an option of ``lora`` is not supported, a target does not exist, or an argument is out of range.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        lora: LoraConfig | None = None,
        *,
        network: str = "auto",
        max_slots: int | None = None,
        keep_memory: bool = True,
        static_decoding: bool = False,
    ) -> None:
        if max_slots is not None and max_slots < 1:
            raise ValueError(f"max_slots must be at least 1, got {max_slots}")
        if keep_memory and model.device.type == "cpu":
            keep_freed_memory()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self._config = self.model.config.get_text_config(decoder=True)  # of the language model, if it is part of a larger one
        self.layout: AdapterLayout = adapter_layout(model, lora or LoraConfig(**SEAL_LORA))
        self.network = _make_network(network, model, self.layout)
        self.network.static_decoding = static_decoding
        self.max_slots = max_slots
        self.base_version = 0  # counts changes of the base by merge and load_base
        self.step_tokens = _STEP_TOKENS.get(model.device.type, _STEP_TOKENS["cuda"])
        self.overhead_tokens = _OVERHEAD_TOKENS.get(model.device.type, _OVERHEAD_TOKENS["cuda"])
        self.read_every = 1 if model.device.type == "cpu" else _READ_EVERY
        self._eos_ids = end_token_ids(model, tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        lora: LoraConfig | None = None,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        trust_remote_code: bool = False,
        network: str = "auto",
        max_slots: int | None = None,
    ) -> Student:
        """Load the base model ``name``; see :func:`load_base` for names and errors."""
        model, tokenizer = load_base(name, device, dtype, trust_remote_code)
        return cls(model, tokenizer, lora, network=network, max_slots=max_slots)

    @property
    def adapter_size(self) -> int:
        """Number of parameters of one adapter."""
        return self.layout.numel

    @property
    def max_length(self) -> int:
        """Longest sequence of the base model, in tokens."""
        named = (getattr(self._config, name, None) for name in _LENGTHS)
        return next((int(length) for length in named if length), 2**31)

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens with an embedding; the tokenizer may have more."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    def check_text(self, text: str, what: str) -> None:
        """Raise a ValueError if the model has no embedding for a token of ``text``; ``what`` is the name of the text."""
        self._check_ids(self.tokenizer(encodable(text), verbose=False)["input_ids"], what)

    def fresh(self, seeds: Sequence[int]) -> Tensor:
        """Initial adapters as in PEFT, ``(len(seeds), adapter_size)``: B is zero, so that the model is unchanged."""
        return self.layout.init(list(seeds))

    def zero(self, adapters: int = 1) -> Tensor:
        """Adapters of zeros, ``(adapters, adapter_size)``: with them the student is the base model."""
        return torch.zeros(adapters, self.adapter_size)

    # The inner loop -------------------------------------------------------------------------------------------------

    def fit(self, updates: Sequence[Update], start: Tensor | None = None, *, progress: bool = False) -> FitResult:
        """Train one adapter for each update.

        Args:
            updates: training examples and settings.
            start: initial adapters, ``(updates, adapter_size)``; by default fresh ones, seeded by each update.
            progress: show a progress bar of tokens.

        Returns:
            The adapters ``(updates, adapter_size)`` on the CPU, and a report for each. An update that cannot be trained has a
            status that says why, and affects no other; see :class:`FitStatus`.

        Raises:
            ValueError: ``start`` has another shape, a TokenExample is outside the vocabulary, or there is no such optimizer.
            torch.OutOfMemoryError: a single step of a single adapter does not fit into memory.
        """
        if start is None:
            start = self.fresh([update.seed for update in updates])
        self._check_adapters(start, len(updates))
        encoded = [self._encode_update(update) for update in updates]
        state_tensors = max((len(update.optimizer.tensors) for update in encoded), default=0)
        total = sum(update.tokens for update in encoded)
        with tqdm(total=total, unit="tok", unit_scale=True, desc="fit", disable=not progress) as bar:
            return InnerLoop(
                self.network,
                encoded,
                start.cpu(),
                self.max_slots or self._slots_that_fit(state_tensors),
                self._step_tokens_that_fit(),
                self.overhead_tokens,
                self.read_every,
                bar.update,
            ).run()

    def answer(
        self,
        adapters: Tensor,
        prompts: Sequence[Sequence[str | Sequence[int]]],
        *,
        max_new_tokens: int = 64,
        stop: Sequence[str] = (),
    ) -> list[list[Answer]]:
        """Greedy answers of each adapter to its own prompts.

        Args:
            adapters: ``(n, adapter_size)``.
            prompts: ``n`` lists of prompts, of any lengths. Text is tokenized without the end token that some tokenizers
                append; token ids, such as those of :func:`seal_env.chat.prompt_ids` for an instruct model, are used as they
                are.
            max_new_tokens: most tokens to generate after each prompt.
            stop: strings that end an answer; answers are cut before them.

        Raises:
            ValueError: shapes do not match, a prompt is empty, or it is too long for ``max_new_tokens`` more tokens.
            torch.OutOfMemoryError: a single prompt does not fit into memory.
        """
        return self._decode(adapters, prompts, max_new_tokens, stop)

    def sample(
        self,
        adapters: Tensor,
        prompts: Sequence[Sequence[str | Sequence[int]]],
        *,
        seeds: Sequence[Sequence[int]],
        sampling: Sampling | None = None,
        max_new_tokens: int = 64,
        stop: Sequence[str] = (),
    ) -> list[list[Answer]]:
        """Sampled answers: as :meth:`answer`, with a seed for each prompt.

        A sample is a function of the adapter, the prompt, its seed and ``sampling`` (temperature 1 and all tokens by default).

        Raises:
            ValueError: as in :meth:`answer`, or ``seeds`` has another shape than ``prompts``.
        """
        if [len(group) for group in prompts] != [len(group) for group in seeds]:
            raise ValueError("sample needs one seed a prompt: prompts and seeds differ in shape")
        flat = [seed for group in seeds for seed in group]
        return self._decode(adapters, prompts, max_new_tokens, stop, sampling or Sampling(), flat)

    def _decode(
        self,
        adapters: Tensor,
        prompts: Sequence[Sequence[str | Sequence[int]]],
        max_new_tokens: int,
        stop: Sequence[str],
        sampling: Sampling | None = None,
        seeds: Sequence[int] = (),
    ) -> list[list[Answer]]:
        self._check_adapters(adapters, len(prompts))
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        if isinstance(stop, str):
            raise ValueError(f"stop takes a list of strings, got the string {stop!r}")
        rows = [(i, self._prompt_ids(p, max_new_tokens)) for i, group in enumerate(prompts) for p in group]
        tokens_per_row = max((len(ids) for _, ids in rows), default=0) + max_new_tokens

        def run(batch: list[int], owners: list[int], used: Tensor) -> list[Answer]:
            return decode(
                self.network,
                self.tokenizer,
                used,
                owners,
                [rows[j][1] for j in batch],
                max_new_tokens,
                stop,
                self._eos_ids,
                sampling,
                [seeds[j] for j in batch] if sampling else (),
                self.read_every,
            )

        classes = [self.network.prompt_class(len(ids)) for _, ids in rows]
        answers = iter(self._in_batches(run, [i for i, _ in rows], adapters, tokens_per_row, classes))
        return [[next(answers) for _ in group] for group in prompts]

    def log_likelihood(
        self, adapters: Tensor, prompts: Sequence[Sequence[str | Sequence[int]]], answers: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Summed log-probability, in nats, of each answer right after its prompt, under each adapter.

        Shapes and errors are those of :meth:`answer`. Prompt and answer are tokenized separately, the answer without special
        tokens.
        """
        self._check_adapters(adapters, len(prompts))
        if [len(group) for group in prompts] != [len(group) for group in answers]:
            raise ValueError("log_likelihood needs one answer a prompt: prompts and answers differ in shape")
        rows = []
        for i, group in enumerate(prompts):
            for prompt, answer in zip(group, answers[i]):
                ids = self.tokenizer.encode(encodable(answer), add_special_tokens=False)
                self._check_ids(ids, "an answer")
                rows.append((i, self._prompt_ids(prompt, len(ids)), ids))
        tokens_per_row = max((len(prompt) + len(ids) for _, prompt, ids in rows), default=0)

        def run(batch: list[int], owners: list[int], used: Tensor) -> list[float]:
            return answer_log_likelihoods(self.network, used, owners, [rows[j][1] for j in batch], [rows[j][2] for j in batch])

        values = iter(self._in_batches(run, [row[0] for row in rows], adapters, tokens_per_row))
        return [[next(values) for _ in group] for group in prompts]

    # Adapters and the base ------------------------------------------------------------------------------------------

    def save_adapter(self, adapter: Tensor, folder: str | os.PathLike[str]) -> None:
        """Save one adapter ``(adapter_size,)`` as a PEFT checkpoint folder."""
        self._check_adapters(adapter[None], 1)
        checkpoint.save_adapter(self.layout, adapter, folder, self.model.config._name_or_path)

    def load_adapter(self, folder: str | os.PathLike[str]) -> Tensor:
        """Load one adapter ``(adapter_size,)`` from a PEFT checkpoint folder with the same LoRA configuration."""
        return checkpoint.load_adapter(self.layout, folder)

    @torch.no_grad()
    def merge(self, adapter: Tensor) -> None:
        """Add one adapter ``(adapter_size,)`` to the base weights, permanently."""
        state = self.model.state_dict()
        for name, weight in self._merged(adapter):  # one at a time: together they are as large as the model, in float32
            state[name].copy_(weight)
        self.base_version += 1

    @torch.no_grad()
    def merged_weights(self, adapter: Tensor) -> dict[str, Tensor]:
        """The adapted weights, by name, with one adapter ``(adapter_size,)`` added; the base stays as it is."""
        return dict(self._merged(adapter))

    def _merged(self, adapter: Tensor) -> Iterator[tuple[str, Tensor]]:
        self._check_adapters(adapter[None], 1)
        flat = adapter.to(self.model.device, torch.float32)[None]
        for target in self.layout.targets:
            module = self.model.get_submodule(target.name)
            delta = target.b(flat)[0] @ target.a(flat)[0] * target.scaling
            yield f"{target.name}.weight", module.weight.float() + (delta.T if isinstance(module, Conv1D) else delta)

    @torch.no_grad()
    def load_base(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the base weights, in place, by a state dict of the same model.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; the base is unchanged then.
        """
        state = self.model.state_dict()
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        for name in state.keys() - weights.keys() - tied:
            raise ValueError(f"the new base weights lack {name!r}")
        for name, value in weights.items():
            if name not in state:
                raise ValueError(f"the new base weights hold {name!r}, which this model does not have")
            if state[name].shape != value.shape:
                raise ValueError(f"the new {name!r} has shape {tuple(value.shape)}, the model {tuple(state[name].shape)}")
        for name, value in weights.items():
            state[name].copy_(value)
        self.base_version += 1

    # Internals ---------------------------------------------------------------------------------------------------------

    def _encode_update(self, update: Update) -> EncodedUpdate:
        limit = min(update.config.max_length, self.max_length)
        examples, status = [], FitStatus.TRAINED
        for example in update.examples:
            ids, first = self._encode_example(example)
            if first < min(len(ids), limit):
                if len(ids) > limit:
                    status = FitStatus.TRUNCATED
                examples.append(EncodedExample(ids[:limit], first))
        if any(max(example.ids) >= self.vocabulary_size for example in examples):
            examples, status = [], FitStatus.OUT_OF_VOCABULARY
        return EncodedUpdate(update, examples, status, update.config.make_optimizer())

    def _encode_example(self, example: Example | TokenExample) -> tuple[list[int], int]:
        if isinstance(example, TokenExample):
            if example.ids and not 0 <= min(example.ids) <= max(example.ids) < self.vocabulary_size:
                raise ValueError(f"a TokenExample holds ids outside the vocabulary of {self.vocabulary_size}")
            return list(example.ids), max(1, example.loss_from)
        text = encodable(example.text)
        if example.loss_from <= 0:
            return list(self.tokenizer(text, verbose=False)["input_ids"]), 1
        if not self.tokenizer.is_fast:  # it has no offsets
            return self._encode_by_prefix(text, example.loss_from)
        encoding = self.tokenizer(text, return_offsets_mapping=True, verbose=False)
        ids = list(encoding["input_ids"])
        offsets = encoding["offset_mapping"]
        learnt = (i for i, (start, end) in enumerate(offsets) if start >= example.loss_from and end > start)
        return ids, max(1, next(learnt, len(ids)))

    def _encode_by_prefix(self, text: str, loss_from: int) -> tuple[list[int], int]:
        """Token ids of ``text`` and the index of the first that begins at character ``loss_from`` or later."""
        ids = list(self.tokenizer(text, verbose=False)["input_ids"])
        bare = self.tokenizer.encode(text, add_special_tokens=False)
        before = self.tokenizer.encode(text[:loss_from], add_special_tokens=False)
        first = common_prefix(before, bare)
        if first < len(before):  # a token begins before the offset and ends after it
            while first < len(bare) and len(self.tokenizer.decode(bare[:first])) < loss_from:
                first += 1
        if first == len(bare):
            return ids, len(ids)
        prefix = len(prompt_ids(self.tokenizer, text, "base")) - len(bare)
        return ids, max(1, prefix + first)

    def _prompt_ids(self, prompt: str | Sequence[int], room: int) -> list[int]:
        ids = prompt_ids(self.tokenizer, prompt, "base") if isinstance(prompt, str) else list(prompt)
        if not ids:
            raise ValueError("a prompt is empty: there is nothing to answer")
        self._check_ids(ids, "a prompt")
        if len(ids) + room > self.max_length:
            text = prompt if isinstance(prompt, str) else self.tokenizer.decode(ids[:200])
            raise ValueError(
                f"a prompt of {len(ids)} tokens leaves no room for {room} more, as the model reads {self.max_length}:"
                f" {' '.join(text.split())[:100]!r}..."
            )
        return ids

    def _check_ids(self, ids: Sequence[int], what: str) -> None:
        if not ids or 0 <= min(ids) <= max(ids) < self.vocabulary_size:
            return
        token = next(token for token in ids if not 0 <= token < self.vocabulary_size)
        raise ValueError(
            f"{what} holds the token {self.tokenizer.convert_ids_to_tokens(int(token))!r} (id {token}), and the model has"
            f" embeddings for {self.vocabulary_size} tokens: take the token out of the text, or a tokenizer that fits"
        )

    def _in_batches(
        self,
        run: Callable[[list[int], list[int], Tensor], list[_Result]],
        adapter_of_row: list[int],
        adapters: Tensor,
        tokens_per_row: int,
        classes: Sequence[int] | None = None,
    ) -> list[_Result]:
        """Results of ``run`` for each row, in batches of rows of one class that fit into memory.

        ``run`` takes row indices (ascending), the adapter of each row as an index into the adapters of the batch, and these
        adapters. If memory runs out, it is called again with half of the rows.
        """
        max_rows, max_adapters = self._rows_that_fit(tokens_per_row)
        by_class: dict[int, list[int]] = {}
        for row, row_class in enumerate(classes or [0] * len(adapter_of_row)):
            by_class.setdefault(row_class, []).append(row)
        results: dict[int, _Result] = {}
        shortages = 0
        waiting = list(by_class.values())[::-1]
        while waiting:
            rows = waiting.pop()
            last = sorted({adapter_of_row[row] for row in rows[:max_rows]})[:max_adapters][-1]
            batch = [row for row in rows[:max_rows] if adapter_of_row[row] <= last]
            used, local = keep_rows(adapter_of_row, batch)
            try:
                results.update(zip(batch, run(batch, local, adapters[used].to(self.model.device, torch.float32))))
                waiting += [rows[len(batch) :]] if len(rows) > len(batch) else []
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise torch.OutOfMemoryError(
                        f"{self.model.device} has too little memory for a prompt with its answer, {tokens_per_row} tokens: use"
                        f" shorter ones or a smaller model, or free memory ({error})"
                    ) from error
            shortages, max_rows = shortages + 1, len(batch) // 2
            waiting.append(rows)
            self.network.release()
            free_cached(self.model.device)
        if shortages:
            _log.warning(
                "memory ran out on %s (times: %d): prompts were read %d at a time, which changes no answer",
                *(self.model.device, shortages, max_rows),
            )
        return [results[row] for row in range(len(adapter_of_row))]

    def _rows_that_fit(self, tokens_per_row: int) -> tuple[int, int]:
        """Most prompts, and most adapters, of a batch that is decoded."""
        config = self._config

        def size(name: str, otherwise: int) -> int:
            value = getattr(config, name, None)
            return value if isinstance(value, int) and value > 0 else otherwise

        hidden, heads = size("hidden_size", 1024), size("num_attention_heads", 1)
        width = size("num_key_value_heads", heads) * size("head_dim", max(1, hidden // heads))
        cache = 2 * size("num_hidden_layers", 1) * width * tokens_per_row
        row_bytes = 2 * self.network.dtype.itemsize * cache + 8 * self.vocabulary_size
        row_bytes += 4 * tokens_per_row * (8 * hidden + 4 * size("intermediate_size", 0))
        budget = available_bytes(self.model.device) // 3
        return max(1, min(_MAX_ANSWER_ROWS, budget // row_bytes)), max(1, budget // (8 * self.adapter_size))

    def _slots_that_fit(self, state_tensors: int = 2) -> int:
        """Adapters with their gradients and ``state_tensors`` of their optimizer (two for AdamW), in a third of the memory."""
        budget = available_bytes(self.model.device) // 3
        return max(1, min(_MAX_SLOTS, budget // (4 * (2 + state_tensors) * self.adapter_size)))

    def _step_tokens_that_fit(self) -> int:
        budget = available_bytes(self.model.device) // 3
        return max(1, min(self.step_tokens, budget // self.network.training_bytes_per_token()))

    def _check_adapters(self, adapters: Tensor, count: int) -> None:
        if tuple(adapters.shape) != (count, self.adapter_size):
            raise ValueError(
                f"expected adapters of shape {(count, self.adapter_size)} (count, adapter_size), got {tuple(adapters.shape)}"
            )


def _make_network(kind: str, model: PreTrainedModel, layout: AdapterLayout) -> Network:
    if kind == "auto":
        kind = "llama" if LlamaNetwork.supports(model) else "generic"
        if kind == "generic":
            _log.info(
                "%s runs through its own forward pass, slower than Llama, Qwen2 and Mistral do here", type(model).__name__
            )
    if kind == "llama":
        if not LlamaNetwork.supports(model):
            raise ValueError(f"network='llama' does not cover {type(model).__name__} as configured; use network='generic'")
        return LlamaNetwork(model, layout)
    if kind == "generic":
        network = GenericNetwork(model, layout)
        check_usable(network)
        return network
    raise ValueError(f"network must be 'auto', 'llama' or 'generic', got {kind!r}")
