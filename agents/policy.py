"""The language model that writes self-edits, and what every algorithm needs of it: samples, log-probabilities, weights.

A policy is a base model and what is trained of it: one LoRA adapter, kept as a flat vector, or all weights. Edits are sampled
by the same decoder that answers questions, so that a sample depends on its prompt, its seed and the weights alone;
log-probabilities are those of the model's own forward pass (Hugging Face), through which gradients flow.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.joined import save_joined
from seal_env.chat import Chat, Template, TemplateChoice, check_chat_template, prompt_ids, resolve_template
from seal_env.files import atomic_write, write_json
from seal_env.student import Answer, Sampling, Student, load_base
from seal_env.student.generic import GenericNetwork, logits_at
from seal_env.student.loading import base_name

# SEAL's outer loop (paper, appendix on knowledge incorporation): rank 64 on all projections.
POLICY_LORA: dict[str, Any] = {"r": 64, "lora_alpha": 128, "target_modules": "all-linear"}
SEAL_SAMPLING = Sampling(temperature=1.0, top_p=0.95)
WRITING = "writing.json"  # how a saved policy wrote: sampling, tokens of an edit, template, thinking
_BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}


@dataclass(frozen=True)
class Completion:
    """What the policy wrote after a prompt.

    Attributes:
        prompt: token ids.
        ids: token ids that were drawn, with the end-of-text token if it was.
        text: what was written, with its thoughts: the environment takes them out of the edit.
        finish: ``eos``, ``stop`` or ``length``.
    """

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    finish: Literal["eos", "stop", "length"]


@dataclass(frozen=True)
class Scores:
    """How likely a batch of completions is, padded on the right to the longest.

    Attributes:
        rows: their indices.
        log_probs: ``(rows, time)`` of each token that was drawn, in nats, at the sampling temperature and over the whole
            vocabulary (top-p 1); 0 where padded.
        mask: ``(rows, time)`` 1 where there is a token.
        log_softmax: ``(rows, time, vocabulary)`` of every token there.
        hidden: ``(rows, hidden_size)`` what the head reads where the prompt ends, for value heads.
    """

    rows: list[int]
    log_probs: Tensor
    mask: Tensor
    log_softmax: Tensor
    hidden: Tensor

    @property
    def entropies(self) -> Tensor:
        """``(rows, time)`` of the whole distribution there, in nats."""
        return -(self.log_softmax.exp() * self.log_softmax).sum(-1) * self.mask


class Policy:
    """See the module's docstring.

    Args:
        model: a causal LM, which the policy changes: give it a copy of its own.
        tokenizer: its tokenizer.
        lora: the adapter that is trained; ``"all"``: no adapter, all weights.
        sampling: how edits are drawn; SEAL's temperature 1 and top-p 0.95 by default. Policy gradients collect theirs with
            top-p 1 (:meth:`agents.Agent.collect`); every agent is evaluated with this one.
        max_new_tokens: most tokens of an edit.
        template: ``base``: prompts are raw text; ``instruct``: they are the user's message in the tokenizer's chat template;
            ``auto``: what the model was tuned for (:func:`seal_env.chat.resolve_template`). It must be that of the environment.
        enable_thinking: passed to the chat template: whether a model that can think first is invited to. Thoughts are drawn
            and learnt from like all other tokens, and count towards ``max_new_tokens``.
        gradient_checkpointing: trade time for memory in :meth:`scores`.

    Raises:
        ValueError: a LoRA that this model cannot have, or a chat template that the tokenizer lacks.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        lora: LoraConfig | Literal["all"] | None = None,
        *,
        sampling: Sampling | None = None,
        max_new_tokens: int = 256,
        template: TemplateChoice = "auto",
        enable_thinking: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        self.template: Template = resolve_template(template, model, tokenizer)
        check_chat_template(tokenizer, self.template)
        self.enable_thinking = enable_thinking
        # A tag that the template writes is part of what the environment must read as thoughts, though it was not drawn.
        self._opening = Chat(tokenizer, enable_thinking).opening if self.template == "instruct" else ""
        self.all_weights = lora == "all"
        self.sampling = sampling or SEAL_SAMPLING
        self.max_new_tokens = max_new_tokens
        config = lora if isinstance(lora, LoraConfig) else LoraConfig(**POLICY_LORA)
        self._student = Student(model, tokenizer, config)
        own = self._student.network
        self._network = own if isinstance(own, GenericNetwork) else GenericNetwork(model, self._student.layout)
        self._reference: PreTrainedModel | None = copy.deepcopy(model) if self.all_weights else None
        self.merged: list[Tensor] = []  # adapters that are part of the base by now
        device = model.device
        self.adapter = nn.Parameter(torch.zeros(self._student.adapter_size, device=device), requires_grad=not self.all_weights)
        if self.all_weights:
            model.requires_grad_(True)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
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
        """Load the base ``name`` (``seal-nano``, a folder or a hub id) and make a policy of it.

        ``device``, ``dtype`` and ``trust_remote_code`` go to :func:`seal_env.student.load_base`, the rest to the policy.
        """
        loading = {key: options.pop(key) for key in ("device", "dtype", "trust_remote_code") if key in options}
        model, tokenizer = load_base(name, **loading)
        return cls(model, tokenizer, lora, **options)

    # Writing --------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> PreTrainedModel:
        return self._student.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._student.tokenizer

    @property
    def name(self) -> str:
        """Of the base model: ``seal-nano``, a hub id or a folder; where an adapter was merged on loading, that of its base."""
        return base_name(self.model.config._name_or_path)

    @property
    def max_length(self) -> int:
        """Most tokens of a prompt and its edit together."""
        return self._student.max_length

    def prompt_ids(self, instruction: str) -> list[int]:
        """The token ids that it reads of an instruction."""
        return prompt_ids(self.tokenizer, instruction, self.template, self.enable_thinking)

    def sample(self, instructions: Sequence[str], seeds: Sequence[int], *, top_p: float | None = None) -> list[Completion]:
        """Write an edit for each instruction; each depends on its instruction, its seed and the weights alone.

        ``top_p``, if given, is used in place of that of :attr:`sampling`.
        """
        prompts = [self.prompt_ids(instruction) for instruction in instructions]
        with torch.no_grad():
            (answers,) = self._student.sample(
                self.adapter.detach().cpu()[None],
                [prompts],
                seeds=[list(seeds)],
                sampling=self.sampling if top_p is None else replace(self.sampling, top_p=top_p),
                max_new_tokens=self.max_new_tokens,
            )
        return [_completion(prompt, answer, self._opening) for prompt, answer in zip(prompts, answers)]

    @property
    def writing(self) -> dict[str, Any]:
        """How it writes, as :meth:`save` records it."""
        names = ("max_new_tokens", "template", "enable_thinking")
        return {**asdict(self.sampling), **{name: getattr(self, name) for name in names}}

    # Learning -------------------------------------------------------------------------------------------------------

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [p for p in self.model.parameters() if p.requires_grad] if self.all_weights else [self.adapter]

    def scores(
        self, completions: Sequence[Completion], *, reference: bool = False, batch_tokens: int | None = None
    ) -> Iterator[Scores]:
        """How likely each completion is, a batch at a time; take gradients of a batch before asking for the next one.

        Args:
            completions: of any lengths; they are batched as they come.
            reference: under the model as it was before any training of this adapter, without gradients.
            batch_tokens: most tokens of a batch, padding included; what does not fit is a batch of its own.
        """
        most = batch_tokens or _BATCH_TOKENS.get(self.model.device.type, _BATCH_TOKENS["cuda"])
        rows: list[int] = []
        longest = 0
        for i, completion in enumerate(completions):
            length = len(completion.prompt) + len(completion.ids)
            full = max(longest, length) * (len(rows) + 1) > most
            if rows and (full or self._network.length_class(length) != self._network.length_class(longest)):
                yield from self._scores(completions, rows, reference)
                rows, longest = [], 0
            rows.append(i)
            longest = max(longest, length)
        if rows:
            yield from self._scores(completions, rows, reference)

    def _scores(self, completions: Sequence[Completion], rows: list[int], reference: bool) -> Iterator[Scores]:
        batch = [completions[i] for i in rows]
        sequences = [[*c.prompt, *c.ids] for c in batch]
        device, longest = self.model.device, max(len(ids) for ids in sequences)
        written = max(len(c.ids) for c in batch)
        tokens = torch.tensor([ids + [0] * (longest - len(ids)) for ids in sequences], device=device)
        attention = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences], device=device)
        mask = torch.tensor([[1.0] * len(c.ids) + [0.0] * (written - len(c.ids)) for c in batch], device=device)
        first = torch.tensor([len(c.prompt) for c in batch], device=device)
        places = (first[:, None] + torch.arange(written, device=device)).clamp(max=longest - 1)
        model = self._reference if reference and self._reference is not None else self.model
        adapted = not (reference or self.all_weights)
        # Entered until the caller has taken the gradients: checkpointing runs the forward pass again in the backward pass.
        with (
            self._network.use(self.adapter[None], [len(batch)], longest) if adapted else nullcontext(),
            _recomputing(model) if self._checkpointing else nullcontext(),
        ):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not reference):
                logits, hidden = logits_at(
                    model,
                    lambda x: x.gather(1, (places - 1)[..., None].expand(-1, -1, x.shape[-1])),
                    input_ids=tokens,
                    attention_mask=attention,
                    use_cache=False,
                )
                if hidden is None:
                    raise ValueError(f"{type(model).__name__} computes its logits without a head, and cannot be a policy")
                log_softmax = torch.log_softmax(logits.float() / self.sampling.temperature, -1)
                log_probs = log_softmax.gather(2, tokens.gather(1, places)[..., None]).squeeze(2) * mask
            yield Scores(rows, log_probs, mask, log_softmax, hidden[:, 0])

    def log_probs(self, completions: Sequence[Completion], *, reference: bool = False) -> Tensor:
        """Log-probabilities ``(completions, time)`` without gradients, 0 where padded; see :class:`Scores`."""
        out = torch.zeros(len(completions), max(len(c.ids) for c in completions))
        with torch.no_grad():
            for batch in self.scores(completions, reference=reference):
                out[batch.rows, : batch.log_probs.shape[1]] = batch.log_probs.cpu()
        return out

    # Weights --------------------------------------------------------------------------------------------------------

    def restart(self, seed: int) -> None:
        """Begin a fresh adapter, which leaves the model as it is; nothing to do where all weights are trained."""
        if not self.all_weights:
            with torch.no_grad():
                self.adapter.copy_(self._student.fresh([seed])[0])

    def merge(self) -> None:
        """Make the adapter part of the base (SEAL: after each round) and begin a fresh one."""
        if not self.all_weights:
            adapter = self.adapter.detach().cpu().clone()
            self._student.merge(adapter)
            self.merged.append(adapter)
            self.restart(seed=len(self.merged))

    @torch.no_grad()
    def merged_weights(self) -> dict[str, Tensor]:
        """The model with its adapter as a state dict of the base: what ``env.unwrapped.load_student`` takes."""
        weights = dict(self.model.state_dict())
        if not self.all_weights:
            weights |= self._student.merged_weights(self.adapter.detach().cpu())
        return weights

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the policy: a PEFT adapter over the original base, with all that was merged, or the whole model.

        :meth:`load` finds there what it needs to go on exactly as from here, :func:`agents.saved.open_policy` how it wrote.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        if self.all_weights:
            self.model.save_pretrained(target / "model")
            self.tokenizer.save_pretrained(target / "model")
        else:
            self._save_adapters(target)
        write_json(target / WRITING, self.writing)

    def _save_adapters(self, target: Path) -> None:
        save_joined(self._student, [*self.merged, self.adapter.detach().cpu()], target)
        tensors = {f"merged.{i}": adapter for i, adapter in enumerate(self.merged)} | {"adapter": self.adapter.detach().cpu()}
        with atomic_write(target / "policy.safetensors") as partial:
            save_file(tensors, partial)

    @torch.no_grad()
    def load(self, folder: str | os.PathLike[str]) -> None:
        """Take over what :meth:`save` wrote of a policy with the same base and adapter; this one must not be trained yet.

        Raises:
            ValueError: this policy has merged adapters already, or the saved one has another shape.
            FileNotFoundError: nothing was saved there.
        """
        source = Path(folder)
        if self.merged:
            raise ValueError("load needs a policy as it was made, and this one has merged adapters: make a new one")
        if self.all_weights:
            _check_there(source / "model")
            saved, _ = load_base(str(source / "model"), str(self.model.device), str(self.model.dtype).removeprefix("torch."))
            self._student.load_base(saved.state_dict())
            return
        _check_there(source / "policy.safetensors")
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


def _checkpointed(model: PreTrainedModel) -> list[nn.Module]:
    return [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]


@contextmanager
def _recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Within: checkpointing is active, which needs training mode; the modules inside the layers stay out of it (dropout)."""
    modules = _checkpointed(model)
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module in modules:
            module.training = False


def _completion(prompt: list[int], answer: Answer, opening: str) -> Completion:
    end = () if answer.eos is None else (answer.eos,)
    return Completion(tuple(prompt), (*answer.ids, *end), opening + answer.text, answer.finish)


def _check_there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} holds no saved policy ({path.name} is missing)")
