"""The language model that writes self-edits: it samples completions, computes their log-probabilities, and is saved.

A policy is a base model and its trained weights: one LoRA adapter, kept as a flat vector, or all weights. Completions are
sampled by the decoder that also answers questions, so a sample depends only on its prompt, its seed and the weights.
Log-probabilities come from the forward pass of the Hugging Face model, with gradients.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.saved import WRITING, save_joined
from agents.token_scores import token_scores
from seal_env.chat import Chat, Template, TemplateChoice, check_chat_template, prompt_ids, resolve_template
from seal_env.files import atomic_write, write_json
from seal_env.student import Sampling, Student, load_base
from seal_env.student.generic import GenericNetwork, Head
from seal_env.student.llama import LlamaNetwork
from seal_env.student.loading import base_name

# SEAL's outer loop (paper, appendix on knowledge incorporation): rank 64 on all projections.
POLICY_LORA: dict[str, Any] = {"r": 64, "lora_alpha": 128, "target_modules": "all-linear"}
SEAL_SAMPLING = Sampling(temperature=1.0, top_p=0.95)


@dataclass(frozen=True)
class PolicyPreset:
    """Defaults of a policy over one model.

    Attributes:
        lora: options of ``peft.LoraConfig``.
        sampling: temperature and top-p.
        max_new_tokens: maximum number of tokens of a self-edit.
    """

    lora: Mapping[str, Any] = field(default_factory=lambda: POLICY_LORA)
    sampling: Sampling = SEAL_SAMPLING
    max_new_tokens: int = 256


# SmolLM2's own edits at temperature 1 are garbled (docs/smollm2.md).
POLICY_PRESETS = {
    "smollm2-135m": PolicyPreset(
        {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}, Sampling(temperature=0.7), max_new_tokens=128
    )
}


def policy_preset(model: str) -> PolicyPreset:
    """The defaults of policies over ``model``: its own, or SEAL's. A trained model has those of its base."""
    return POLICY_PRESETS.get(base_name(model), PolicyPreset())


_BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}  # activations of a batch are kept until its backward pass
# A sequence of several completions has at most this many tokens plus twice those of its prompt: in longer ones attention, which
# grows with the square, costs more than the shared prompt saves (measured with prompts of 300 tokens).
_SHARED_TOKENS = 512


@dataclass(frozen=True)
class Completion:
    """A text that the policy generated for a prompt.

    Attributes:
        prompt: token ids of the prompt.
        ids: generated token ids, including the end-of-sequence token if it was generated.
        text: the decoded text, including thoughts, which the environment removes from the edit.
        finish: why generation ended: ``eos``, ``stop`` or ``length``.
    """

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    finish: Literal["eos", "stop", "length"]

    @classmethod
    def from_text(cls, text: str) -> Completion:
        """A completion without token ids, for a text that no language model generated."""
        return cls((), (), text, "stop")


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of a batch of completions, padded on the right to the longest one.

    Attributes:
        rows: indices of the completions in the list that was passed to :meth:`Policy.scores`.
        log_probs: ``(rows, time)`` log-probabilities of the generated tokens in nats, at the sampling temperature and over the
            whole vocabulary (top-p 1); 0 at padding.
        entropies: ``(rows, time)`` entropies of the distributions over the vocabulary in nats; 0 at padding.
        mask: ``(rows, time)`` 1 at tokens, 0 at padding.
        hidden: ``(rows, hidden_size)`` input of the language model's head at the last token of the prompt, for value heads.
    """

    rows: list[int]
    log_probs: Tensor
    entropies: Tensor
    mask: Tensor
    hidden: Tensor


class _Sequence:
    """A prompt and completions of it, as one sequence of tokens.

    Args:
        prompt: token ids.

    Attributes:
        prompt: number of tokens of the prompt.
        tokens: the prompt, then one completion after the other.
        owners: of each token: 0 in the prompt, ``i + 1`` in the i-th completion.
        positions: of each token in its completion's text, the prompt included.
        rows: index of each completion.
        lengths: number of tokens of each completion.
        sources, targets: for each generated token, the position in ``tokens`` of the token before it, and its id.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self.prompt = len(prompt)
        self.tokens, self.owners, self.positions = list(prompt), [0] * len(prompt), list(range(len(prompt)))
        self.rows: list[int] = []
        self.lengths: list[int] = []
        self.sources: list[int] = []
        self.targets: list[int] = []

    def append(self, row: int, ids: Sequence[int]) -> None:
        """Add the completion ``ids`` with index ``row``."""
        start = len(self.tokens)
        self.sources += [self.prompt - 1, *range(start, start + len(ids))][: len(ids)]
        self.targets += ids
        self.rows.append(row)
        self.lengths.append(len(ids))
        self.tokens += ids
        self.owners += [len(self.rows)] * len(ids)
        self.positions += range(self.prompt, self.prompt + len(ids))


class Policy:
    """A causal language model with a trainable LoRA adapter (or trainable weights) that writes self-edits.

    Args:
        model: a causal LM. The policy changes it in place, so pass a copy if it is used elsewhere.
        tokenizer: its tokenizer.
        lora: configuration of the trained adapter, by default that of the model's preset; ``"all"`` trains all weights without
            an adapter.
        sampling: temperature and top-p of :meth:`sample`; by default those of the model's preset, in general SEAL's 1.0 and
            0.95. Policy gradients collect with top-p 1 (:meth:`agents.Agent.collect`); every agent is evaluated with this
            sampling.
        max_new_tokens: maximum number of tokens of a self-edit, by default that of the model's preset (256 in general).
        template: ``base`` prompts with raw text, ``instruct`` with a user message in the tokenizer's chat template, ``auto``
            chooses by the model (:func:`seal_env.chat.resolve_template`). It must equal the environment's template.
        enable_thinking: passed to the chat template: whether the model may think before it writes. Thoughts are sampled and
            learnt like all other tokens and count towards ``max_new_tokens``.
        gradient_checkpointing: recompute activations in the backward pass of :meth:`scores`, to save memory.

    Attributes:
        adapter: the trained LoRA parameters as one vector.
        merged: adapters that were merged into the base.

    Raises:
        ValueError: the model does not support this LoRA or gradient checkpointing, or the tokenizer lacks a chat template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        lora: LoraConfig | Literal["all"] | None = None,
        *,
        sampling: Sampling | None = None,
        max_new_tokens: int | None = None,
        template: TemplateChoice = "auto",
        enable_thinking: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        self.template: Template = resolve_template(template, model, tokenizer)
        check_chat_template(tokenizer, self.template)
        self.enable_thinking = enable_thinking
        # The environment must also see a thinking tag that the template wrote, to tell thoughts from the edit.
        self._opening = Chat(tokenizer, enable_thinking).opening if self.template == "instruct" else ""
        self.all_weights = lora == "all"
        preset = policy_preset(model.config._name_or_path)
        self.sampling = sampling or preset.sampling
        self.max_new_tokens = max_new_tokens or preset.max_new_tokens
        config = lora if isinstance(lora, LoraConfig) else LoraConfig(**preset.lora)
        self._student = Student(model, tokenizer, config)
        network = self._student.network
        self._network = network if isinstance(network, GenericNetwork) else GenericNetwork(model, self._student.layout)
        # Others may have windows, recurrent layers or positions that depend on the batch, or ignore a mask of four dimensions.
        self._shares_prompts = LlamaNetwork.supports(model) and model.config._attn_implementation in ("sdpa", "eager")
        self._reference: PreTrainedModel | None = copy.deepcopy(model) if self.all_weights else None
        self.merged: list[Tensor] = []
        device = model.device
        self.adapter = nn.Parameter(torch.zeros(self._student.adapter_size, device=device), requires_grad=not self.all_weights)
        if self.all_weights:
            model.requires_grad_(True)
        if gradient_checkpointing:
            contexts = {"context_fn": lambda: (nullcontext(), self._forward_context())}  # forward pass, recomputation
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **contexts})
            for module in _checkpointed(model):
                if dropout := next(
                    (name for name, p in vars(module).items() if "drop" in name and isinstance(p, float) and p), ""
                ):
                    raise ValueError(
                        f"gradient_checkpointing needs layers without dropout of their own, and {type(module).__name__} has"
                        f" {dropout}={getattr(module, dropout)}: set it to 0 in the model's config"
                    )
        self._checkpointing = gradient_checkpointing
        self.restart(seed=0)

    @classmethod
    def from_pretrained(cls, name: str, lora: LoraConfig | Literal["all"] | None = None, **options: Any) -> Policy:
        """Create a policy over the base model ``name`` (a named model, a folder, a GGUF file or a hub id).

        ``device``, ``dtype`` and ``trust_remote_code`` are passed to :func:`seal_env.student.load_base`, all other options to
        :class:`Policy`.
        """
        loading = {key: options.pop(key) for key in ("device", "dtype", "trust_remote_code") if key in options}
        model, tokenizer = load_base(name, **loading)
        return cls(model, tokenizer, lora, **options)

    # Sampling -------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> PreTrainedModel:
        return self._student.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._student.tokenizer

    @property
    def name(self) -> str:
        """Name of the base model: ``seal-nano``, a hub id or a folder. An adapter that was merged on loading does not count."""
        return base_name(self.model.config._name_or_path)

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of a prompt and its completion together."""
        return self._student.max_length

    def prompt_ids(self, instruction: str) -> list[int]:
        """Token ids of an instruction in the policy's template."""
        return prompt_ids(self.tokenizer, instruction, self.template, self.enable_thinking)

    def sample(
        self, prompts: Sequence[str | Sequence[int]], seeds: Sequence[int], *, top_p: float | None = None
    ) -> list[Completion]:
        """Sample a completion for each prompt; it depends only on its prompt, its seed and the weights.

        Args:
            prompts: instructions, or token ids of :meth:`prompt_ids`.
            seeds: one for each prompt.
            top_p: used instead of ``sampling.top_p``.
        """
        ids = [self.prompt_ids(prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
        with torch.no_grad():
            (answers,) = self._student.sample(
                self.adapter.detach().cpu()[None],
                [ids],
                seeds=[list(seeds)],
                sampling=self.sampling if top_p is None else replace(self.sampling, top_p=top_p),
                max_new_tokens=self.max_new_tokens,
            )
        return [
            Completion(
                tuple(prompt),
                answer.ids if answer.eos is None else (*answer.ids, answer.eos),
                self._opening + answer.text,
                answer.finish,
            )
            for prompt, answer in zip(ids, answers)
        ]

    def decode(self, prompt: Sequence[int], ids: Sequence[int]) -> Completion:
        """The completion of these token ids, as :meth:`sample` returned it."""
        ended = bool(ids) and ids[-1] in self._student._eos_ids
        text = self.tokenizer.decode(list(ids[:-1] if ended else ids), skip_special_tokens=True)
        return Completion(tuple(prompt), tuple(ids), self._opening + text, "eos" if ended else "length")

    @property
    def writing(self) -> dict[str, Any]:
        """Generation settings, as :meth:`save` records them."""
        names = ("max_new_tokens", "template", "enable_thinking")
        return {**asdict(self.sampling), **{name: getattr(self, name) for name in names}}

    # Learning -------------------------------------------------------------------------------------------------------

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters."""
        return [p for p in self.model.parameters() if p.requires_grad] if self.all_weights else [self.adapter]

    def scores(
        self, completions: Sequence[Completion], *, reference: bool = False, batch_tokens: int | None = None
    ) -> Iterator[Scores]:
        """Score completions under the current weights, one batch at a time, with gradients unless they are disabled.

        Llama-shaped models with full attention compute a prompt once for several completions: these follow each other in one
        sequence, and attend to the prompt and to themselves. Logits are computed chunk by chunk, and again in the backward
        pass, so that few of them are in memory at a time.

        Args:
            completions: of any lengths. Batches group those with the same prompt, see ``Scores.rows``. A completion without
                tokens has a ``hidden`` only.
            reference: score under the model before this adapter was trained, without gradients.
            batch_tokens: maximum number of tokens of a batch, padding included. A longer completion is a batch by itself.
        """
        most = batch_tokens or _BATCH_TOKENS.get(self.model.device.type, _BATCH_TOKENS["cuda"])
        batch: list[_Sequence] = []
        longest = 0
        for sequence in self._sequences(completions, most):
            length = len(sequence.tokens)
            full = max(longest, length) * (len(batch) + 1) > most
            if batch and (full or self._network.length_class(length) != self._network.length_class(longest)):
                yield self._score_batch(batch, reference)
                batch, longest = [], 0
            batch.append(sequence)
            longest = max(longest, length)
        if batch:
            yield self._score_batch(batch, reference)

    def _sequences(self, completions: Sequence[Completion], most: int) -> list[_Sequence]:
        """Group completions by prompt, if this is exact, in sequences of at most ``most`` tokens or one completion."""
        by_prompt: dict[tuple[int, ...], _Sequence] = {}
        sequences: list[_Sequence] = []
        for i, completion in enumerate(completions):
            sequence = by_prompt.get(completion.prompt)
            length = min(most, _SHARED_TOKENS + 2 * len(completion.prompt))
            if sequence is None or len(sequence.tokens) + len(completion.ids) > length:
                sequence = _Sequence(completion.prompt)
                sequences.append(sequence)
                if self._shares_prompts:
                    by_prompt[completion.prompt] = sequence
            sequence.append(i, completion.ids)
        return sequences

    def _score_batch(self, batch: Sequence[_Sequence], reference: bool) -> Scores:
        device, longest = self.model.device, max(len(sequence.tokens) for sequence in batch)

        def padded(rows: Sequence[list[int]], value: int) -> Tensor:
            return torch.tensor([row + [value] * (longest - len(row)) for row in rows], device=device)

        tokens = padded([sequence.tokens for sequence in batch], 0)
        owners = padded([sequence.owners for sequence in batch], -1)
        inputs = {"input_ids": tokens, "attention_mask": (owners >= 0).long(), "use_cache": False}
        if any(len(sequence.rows) > 1 for sequence in batch):
            inputs["attention_mask"] = _shared_prompt_mask(owners, self.model.dtype)
            inputs["position_ids"] = padded([sequence.positions for sequence in batch], 0)
        rows = [i for sequence in batch for i in sequence.rows]
        lengths = torch.tensor([length for sequence in batch for length in sequence.lengths], device=device)
        mask = torch.arange(max(1, int(lengths.max())), device=device) < lengths[:, None]
        ids = torch.tensor([token for sequence in batch for token in sequence.targets], dtype=torch.long, device=device)
        # Of the tokens before the generated ones, then the last of the prompt for each completion.
        positions = [i * longest + position for i, sequence in enumerate(batch) for position in sequence.sources]
        ends = [i * longest + sequence.prompt - 1 for i, sequence in enumerate(batch) for _ in sequence.rows]
        picked = torch.tensor(positions + ends, device=device)
        model = self._reference if reference and self._reference is not None else self.model
        adapted = not (reference or self.all_weights)

        self._forward_context = partial(self._adapted, model, len(batch) if adapted else 0, longest)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not reference):
            head = Head(model)
            with self._forward_context():
                hidden = head.inputs(lambda x: x.flatten(0, 1).index_select(0, picked)[None], **inputs)[0]
            flat = token_scores(head.logits, hidden[: len(ids)], ids, self._student.vocabulary_size, self.sampling.temperature)
            log_probs, entropies = (values.new_zeros(mask.shape).masked_scatter(mask, values) for values in flat)
        return Scores(rows, log_probs, entropies, mask.float(), hidden[len(ids) :])

    @contextmanager
    def _adapted(self, model: PreTrainedModel, rows: int, time: int) -> Iterator[None]:
        """Within: ``rows`` sequences of ``time`` tokens pass through the adapter (0: none do), and checkpointing is active.

        Gradient checkpointing enters it again when the backward pass recomputes a layer, so that a batch of scores holds
        nothing open.
        """
        with (
            self._network.use(self.adapter[None], [rows], time) if rows else nullcontext(),
            _training_mode(_checkpointed(model) if self._checkpointing else []),
        ):
            yield

    def log_probs(self, completions: Sequence[Completion], *, reference: bool = False) -> Tensor:
        """Log-probabilities ``(completions, time)`` without gradients, 0 at padding; see :class:`Scores`."""
        out = torch.zeros(len(completions), max(len(c.ids) for c in completions))
        with torch.no_grad():
            for batch in self.scores(completions, reference=reference):
                out[batch.rows, : batch.log_probs.shape[1]] = batch.log_probs.cpu()
        return out

    # Weights --------------------------------------------------------------------------------------------------------

    def restart(self, seed: int) -> None:
        """Replace the adapter by a newly initialised one (B = 0). Does nothing if all weights are trained."""
        if not self.all_weights:
            with torch.no_grad():
                self.adapter.copy_(self._student.fresh([seed])[0])

    def merge(self) -> None:
        """Merge the adapter into the base, as SEAL does after each round, and start a new one."""
        if not self.all_weights:
            adapter = self.adapter.detach().cpu().clone()
            self._student.merge(adapter)
            self.merged.append(adapter)
            self.restart(seed=len(self.merged))

    @torch.no_grad()
    def merged_weights(self) -> dict[str, Tensor]:
        """State dict of the base with the adapter merged, for ``env.unwrapped.load_student``."""
        weights = dict(self.model.state_dict())
        if not self.all_weights:
            weights |= self._student.merged_weights(self.adapter.detach().cpu())
        return weights

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the policy as one PEFT adapter of the original base that includes all merges, or as a model if all weights are
        trained.

        The folder also holds the exact tensors, for :meth:`load`, and the generation settings, for
        :func:`agents.saved.open_policy`.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        if self.all_weights:
            self.model.save_pretrained(target / "model")
            self.tokenizer.save_pretrained(target / "model")
        else:
            adapter = self.adapter.detach().cpu()
            save_joined(self._student, [*self.merged, adapter], target)
            tensors = {f"merged.{i}": merged for i, merged in enumerate(self.merged)} | {"adapter": adapter}
            with atomic_write(target / "policy.safetensors") as partial_file:
                save_file(tensors, partial_file)
        write_json(target / WRITING, self.writing)

    @torch.no_grad()
    def load(self, folder: str | os.PathLike[str]) -> None:
        """Load the weights that :meth:`save` wrote for a policy of the same base and LoRA. This policy must be untrained.

        Raises:
            ValueError: this policy has merged adapters, or the saved adapter has another size.
            FileNotFoundError: the folder holds no saved policy.
        """
        source = Path(folder)
        if self.merged:
            raise ValueError("load needs an untrained policy, and this one has merged adapters: create a new one")
        if self.all_weights:
            _check_exists(source / "model")
            saved, _ = load_base(str(source / "model"), str(self.model.device), str(self.model.dtype).removeprefix("torch."))
            self._student.load_base(saved.state_dict())
            return
        _check_exists(source / "policy.safetensors")
        tensors = load_file(source / "policy.safetensors")
        if tensors["adapter"].shape != self.adapter.shape:
            raise ValueError(
                f"{source} holds an adapter of {len(tensors['adapter'])} parameters, this policy has {len(self.adapter)}:"
                " its base or its LoRA is another one"
            )
        for i in range(len(tensors) - 1):
            self._student.merge(tensors[f"merged.{i}"])
            self.merged.append(tensors[f"merged.{i}"])
        self.adapter.copy_(tensors["adapter"])


def _shared_prompt_mask(owners: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask ``(rows, 1, time, time)``: tokens attend to earlier ones of the prompt and of their completion.

    Args:
        owners: ``(rows, time)``, see :class:`_Sequence`; -1 at padding.
        dtype: of the mask.
    """
    seen = ((owners[:, None] == 0) | (owners[:, None] == owners[:, :, None])).tril()
    mask = torch.zeros(seen.shape, dtype=dtype, device=owners.device).masked_fill_(~seen, torch.finfo(dtype).min)
    return mask[:, None]


def _checkpointed(model: PreTrainedModel) -> list[nn.Module]:
    return [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]


@contextmanager
def _training_mode(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Within: these modules are in training mode, which checkpointing needs; their submodules are not (dropout)."""
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module in modules:
            module.training = False


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} holds no saved policy ({path.name} is missing)")
