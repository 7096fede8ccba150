"""The model that is updated: a frozen causal LM, and adapters that are trained and asked many at a time."""

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
from seal_env.student.fit import EncodedExample, FitResult, FitStatus, InnerLoop
from seal_env.student.generic import GenericNetwork, check_usable
from seal_env.student.layout import AdapterLayout, adapter_layout
from seal_env.student.llama import LlamaNetwork
from seal_env.student.loading import load_base
from seal_env.student.memory import available_bytes, free_cached, is_out_of_memory, keep_freed_memory
from seal_env.student.network import Network
from seal_env.update import SEAL_LORA, Example, TokenExample, UpdatePlan

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# Tokens in one training batch, and what starting one costs in tokens; measured by `seal-bench speed`.
_STEP_TOKENS = {"cpu": 768, "cuda": 16384}
_OVERHEAD_TOKENS = {"cpu": 110, "cuda": 2048}
_MAX_SLOTS = 256
_READ_EVERY = 16  # steps, of training or decoding, that a GPU is given before what came of them is read
# What configurations call the most tokens that a model can read.
_LENGTHS = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "context_length")
_MAX_ANSWER_ROWS = 512


class Student:
    """A frozen base model and the means to train, ask, save and merge LoRA adapters over it.

    An adapter is one float32 vector; many are a tensor ``(adapters, numel)``. The student keeps none: :meth:`fit` takes
    where to start from and returns where it ended, so the outcome of a plan is a function of the plan, the start and the base.

    Args:
        model: a causal LM; it is frozen and put into evaluation mode. Its type picks the network: Llama-shaped models run on
            :class:`LlamaNetwork`, all others on :class:`GenericNetwork`.
        tokenizer: its tokenizer.
        lora: what to adapt. ``target_modules=None`` is PEFT's default for the architecture (``q_proj`` and ``v_proj`` for
            Llama and Qwen2, as SEAL).
        network: ``"auto"``, or force ``"llama"`` or ``"generic"``.
        max_slots: most adapters in training at once; by default as many as fit in memory, at most 256.
        keep_memory: on the CPU, let the C library keep freed memory (see :func:`keep_freed_memory`).
        static_decoding: Llama-shaped models decode with the same shapes for many steps, which run on CUDA as graphs. Not the
            default, as it has not been measured on a card yet.

    Raises:
        ValueError: an option of ``lora`` that is not supported, a target that does not exist, or an argument out of range.
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
            keep_freed_memory()  # where that is not to be had, it says so
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self._config = self.model.config.get_text_config(decoder=True)  # of the language model alone, where there is more
        self.layout: AdapterLayout = adapter_layout(model, lora or LoraConfig(**SEAL_LORA))
        self.network = _make_network(network, model, self.layout)
        self.network.static_decoding = static_decoding
        self.max_slots = max_slots
        self.base_version = 0  # counts merge and load_base: what was computed with another version is stale
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
        """Load the base ``name`` and make a student of it; see :func:`load_base` for names and errors."""
        model, tokenizer = load_base(name, device, dtype, trust_remote_code)
        return cls(model, tokenizer, lora, network=network, max_slots=max_slots)

    @property
    def adapter_size(self) -> int:
        """Number of parameters of one adapter."""
        return self.layout.numel

    @property
    def max_length(self) -> int:
        """Most tokens the base model can read."""
        named = (getattr(self._config, name, None) for name in _LENGTHS)
        return next((int(length) for length in named if length), 2**31)

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the base model has an embedding for; a tokenizer may know more."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    def check_text(self, text: str, what: str) -> None:
        """Raise a ValueError where the model has no embedding for a token of ``text``; ``what`` names the text."""
        self._check_ids(self.tokenizer(encodable(text), verbose=False)["input_ids"], what)

    def fresh(self, seeds: Sequence[int]) -> Tensor:
        """New adapters as PEFT starts them, ``(len(seeds), adapter_size)``: each leaves the model as it is."""
        return self.layout.init(list(seeds))

    def zero(self, adapters: int = 1) -> Tensor:
        """Adapters of zeros: asking with them is asking the base model."""
        return torch.zeros(adapters, self.adapter_size)

    # The inner loop -------------------------------------------------------------------------------------------------

    def fit(self, plans: Sequence[UpdatePlan], start: Tensor | None = None, *, progress: bool = False) -> FitResult:
        """Carry out the plans, one adapter each.

        Args:
            plans: what to train on and how.
            start: adapters to go on from, ``(plans, adapter_size)``; fresh ones, seeded by each plan, by default.
            progress: show a progress bar of tokens.

        Returns:
            The adapters ``(plans, adapter_size)`` on the CPU, and a report a plan. A plan that cannot be carried out
            has a status that says so and harms no other; see :class:`FitStatus`.

        Raises:
            ValueError: ``start`` has another shape.
            torch.OutOfMemoryError: a single step of a single adapter does not fit into memory.
        """
        plans = list(plans)
        if start is None:
            start = self.fresh([plan.seed for plan in plans])
        self._check_adapters(start, len(plans))
        encoded = [self._encode_plan(plan) for plan in plans]
        known = self.vocabulary_size
        readable = [all(max(e.ids) < known for e in sequences) for sequences, _ in encoded]
        examples = [sequences if fits else [] for (sequences, _), fits in zip(encoded, readable)]
        epochs = [plan.epochs for plan in plans]
        total = sum(n * len(e.ids) for n, sequences in zip(epochs, examples) for e in sequences)
        with tqdm(total=total, unit="tok", unit_scale=True, desc="fit", disable=not progress) as bar:
            result = InnerLoop(
                self.network,
                plans,
                examples,
                [cut for _, cut in encoded],
                start.cpu(),
                self.max_slots or self._slots_that_fit(),
                self._step_tokens_that_fit(),
                self.overhead_tokens,
                self.read_every,
                bar.update,
            ).run()
        for report, fits in zip(result.reports, readable):
            report.status = report.status if fits else FitStatus.OUT_OF_VOCABULARY
        return result

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
            prompts: ``n`` lists of prompts, of any lengths. Text is read without the end token that some tokenizers append;
                token ids, such as those of :func:`seal_env.chat.prompt_ids` for an instruct model, as they are.
            max_new_tokens: most tokens to write after each prompt.
            stop: strings that end an answer; none of them appears in it.

        Raises:
            ValueError: shapes that do not match, an empty prompt, or one that leaves no room for ``max_new_tokens``.
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

        What is drawn depends on the adapter, the prompt, its seed and ``sampling`` (temperature 1 and all tokens by default).

        Raises:
            ValueError: as :meth:`answer`, or ``seeds`` differ in shape from ``prompts``.
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
        tokens_a_row = max((len(ids) for _, ids in rows), default=0) + max_new_tokens

        def run(wave: list[int], owners: list[int], used: Tensor) -> list[Answer]:
            return decode(
                self.network,
                self.tokenizer,
                used,
                owners,
                [rows[j][1] for j in wave],
                max_new_tokens,
                stop,
                self._eos_ids,
                sampling,
                [seeds[j] for j in wave] if sampling else (),
                self.read_every,
            )

        classes = [self.network.prompt_class(len(ids)) for _, ids in rows]
        answers = iter(self._in_waves(run, [i for i, _ in rows], adapters, tokens_a_row, classes))
        return [[next(answers) for _ in group] for group in prompts]

    def log_likelihood(
        self, adapters: Tensor, prompts: Sequence[Sequence[str | Sequence[int]]], answers: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Summed log-probability, in nats, of each given answer right after its prompt, under each adapter.

        Shapes and errors as in :meth:`answer`; prompt and answer are tokenized apart, and the answer without special tokens.
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
        tokens_a_row = max((len(prompt) + len(ids) for _, prompt, ids in rows), default=0)

        def run(wave: list[int], owners: list[int], used: Tensor) -> list[float]:
            return answer_log_likelihoods(self.network, used, owners, [rows[j][1] for j in wave], [rows[j][2] for j in wave])

        values = iter(self._in_waves(run, [row[0] for row in rows], adapters, tokens_a_row))
        return [[next(values) for _ in group] for group in prompts]

    # Adapters and the base ------------------------------------------------------------------------------------------

    def save_adapter(self, adapter: Tensor, folder: str | os.PathLike[str]) -> None:
        """Write one adapter ``(adapter_size,)`` as a PEFT checkpoint folder."""
        self._check_adapters(adapter[None], 1)
        checkpoint.save_adapter(self.layout, adapter, folder, self.model.config._name_or_path)

    def load_adapter(self, folder: str | os.PathLike[str]) -> Tensor:
        """Read one adapter ``(adapter_size,)`` from a PEFT checkpoint folder made with the same LoRA configuration."""
        return checkpoint.load_adapter(self.layout, folder)

    @torch.no_grad()
    def merge(self, adapter: Tensor) -> None:
        """Add one adapter ``(adapter_size,)`` to the base weights, for good."""
        own = self.model.state_dict()
        for name, weight in self._merged(adapter):  # one at a time: all of them are as large as the model, in float32
            own[name].copy_(weight)
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
            ValueError: a name or a shape is missing, unknown or different; nothing is changed then.
        """
        own = self.model.state_dict()
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        for name in own.keys() - weights.keys() - tied:
            raise ValueError(f"the new base weights lack {name!r}")
        for name, value in weights.items():
            if name not in own:
                raise ValueError(f"the new base weights hold {name!r}, which this model does not have")
            if own[name].shape != value.shape:
                raise ValueError(f"the new {name!r} has shape {tuple(value.shape)}, the model {tuple(own[name].shape)}")
        for name, value in weights.items():
            own[name].copy_(value)
        self.base_version += 1

    # Inside ---------------------------------------------------------------------------------------------------------

    def _encode_plan(self, plan: UpdatePlan) -> tuple[list[EncodedExample], bool]:
        """The plan's sequences that have a token to learn, and whether any was cut."""
        limit = min(plan.max_length, self.max_length)
        sequences, any_cut = [], False
        for example in plan.examples:
            ids, first = self._encode_example(example)
            if first < min(len(ids), limit):
                any_cut |= len(ids) > limit
                sequences.append(EncodedExample(ids[:limit], first))
        return sequences, any_cut

    def _encode_example(self, example: Example | TokenExample) -> tuple[list[int], int]:
        if isinstance(example, TokenExample):
            if example.ids and not 0 <= min(example.ids) <= max(example.ids) < self.vocabulary_size:
                raise ValueError(f"a TokenExample holds ids outside the vocabulary of {self.vocabulary_size}")
            return list(example.ids), max(1, example.loss_from)
        text = encodable(example.text)
        if example.loss_from <= 0:
            return list(self.tokenizer(text, verbose=False)["input_ids"]), 1
        if not self.tokenizer.is_fast:  # a tokenizer in Python does not say where its tokens stand
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
        if first < len(before):  # a token reaches across
            while first < len(bare) and len(self.tokenizer.decode(bare[:first])) < loss_from:
                first += 1
        if first == len(bare):
            return ids, len(ids)
        in_front = len(prompt_ids(self.tokenizer, text, "base")) - len(bare)
        return ids, max(1, in_front + first)

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

    def _in_waves(
        self,
        run: Callable[[list[int], list[int], Tensor], list[_Result]],
        owner_of_row: list[int],
        adapters: Tensor,
        tokens_a_row: int,
        classes: Sequence[int] | None = None,
    ) -> list[_Result]:
        """What ``run`` returns for each row, given batches of rows of one class that fit into memory.

        ``run`` takes row indices (ascending), the index of each row's adapter among those of the batch, and these adapters.
        Where memory runs out, it is called again with half of the rows.
        """
        most, most_adapters = self._rows_that_fit(tokens_a_row)
        together: dict[int, list[int]] = {}
        for row, prompt_class in enumerate(classes or [0] * len(owner_of_row)):
            together.setdefault(prompt_class, []).append(row)
        results: dict[int, _Result] = {}
        shortages = 0
        waiting = list(together.values())[::-1]
        while waiting:
            rows = waiting.pop()
            owners: list[int] = []
            local: list[int] = []
            for row in rows[:most]:
                if not owners or owners[-1] != owner_of_row[row]:
                    if len(owners) == most_adapters:
                        break
                    owners.append(owner_of_row[row])
                local.append(len(owners) - 1)
            wave = rows[: len(local)]
            try:
                results.update(zip(wave, run(wave, local, adapters[owners].to(self.model.device, torch.float32))))
                waiting += [rows[len(wave) :]] if len(rows) > len(wave) else []
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(wave) == 1:
                    raise torch.OutOfMemoryError(
                        f"{self.model.device} has too little memory for a prompt with its answer, {tokens_a_row} tokens: use"
                        f" shorter ones or a smaller model, or free memory ({error})"
                    ) from error
            shortages, most = shortages + 1, len(wave) // 2
            waiting.append(rows)
            self.network.release()
            free_cached(self.model.device)
        if shortages:
            _log.warning(
                "memory ran out on %s (times: %d): prompts were read %d at a time, which changes no answer",
                *(self.model.device, shortages, most),
            )
        return [results[row] for row in range(len(owner_of_row))]

    def _rows_that_fit(self, tokens_a_row: int) -> tuple[int, int]:
        """Most prompts, and most adapters, in a batch that is decoded."""
        config = self._config

        def size(name: str, otherwise: int) -> int:
            value = getattr(config, name, None)
            return value if isinstance(value, int) and value > 0 else otherwise

        hidden, heads = size("hidden_size", 1024), size("num_attention_heads", 1)
        width = size("num_key_value_heads", heads) * size("head_dim", max(1, hidden // heads))
        cache = 2 * size("num_hidden_layers", 1) * width * tokens_a_row
        row_bytes = 2 * self.network.dtype.itemsize * cache + 8 * self.vocabulary_size
        row_bytes += 4 * tokens_a_row * (8 * hidden + 4 * size("intermediate_size", 0))
        budget = available_bytes(self.model.device) // 3
        return max(1, min(_MAX_ANSWER_ROWS, budget // row_bytes)), max(1, budget // (8 * self.adapter_size))

    def _slots_that_fit(self) -> int:
        budget = available_bytes(self.model.device) // 3
        return max(1, min(_MAX_SLOTS, budget // (4 * 4 * self.adapter_size)))

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
