"""Grading by a language model on this machine: would it rather say yes or no?

get_grader("local-judge", {"model": "Qwen/Qwen2.5-7B-Instruct", "device": "cuda", "dtype": "bfloat16"})

Nothing is generated. The model reads the prompt of :mod:`seal_env.evaluation.graders.judge_prompt` in its chat template once,
and the likelier of the two words is the verdict.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seal_env.checks import check_choice, check_count
from seal_env.evaluation.graders.grader import UNGRADED, Answered, Verdict
from seal_env.evaluation.graders.judge_prompt import TEST_PROMPT, Messages, judge_all
from seal_env.student.loading import check_device, check_dtype, load_base

REFUSALS = ("skip", "wrong", "error")  # for a prompt that the model cannot read

_log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class LocalJudge:
    """Grades with any Hugging Face causal LM that has a chat template.

    Answers that match an accepted one after SQuAD's normalization are right, and empty ones wrong, without the model, which is
    loaded once per process, when it is first needed. Its verdicts are cached until the process ends.

    Args:
        model: a folder with safetensors weights or a hub id.
        device: ``cpu``, ``cuda``, ...
        dtype: ``float32`` or ``bfloat16``.
        trust_remote_code: run code that comes with the model.
        batch_size: prompts per forward pass, of about the same length. Padding is on the right, where a causal model does not
            see it: a batch changes verdicts by rounding only.
        on_refused: the verdict on an answer whose prompt is longer than the model can read: ``skip`` is
            :data:`~seal_env.evaluation.graders.UNGRADED`, so that its question is left out of the score; ``wrong`` is False;
            ``error`` raises.

    Raises:
        ValueError: an option that cannot work; when called, a model that cannot be loaded, has no chat template or cannot read
            even a short prompt, or with ``on_refused="error"`` a prompt longer than it can read.
    """

    model: str
    device: str = "cpu"
    dtype: str = "float32"
    trust_remote_code: bool = False
    batch_size: int = 16
    on_refused: str = "skip"

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_choice("on_refused", self.on_refused, REFUSALS)
        check_dtype(self.dtype)
        check_device(self.device)

    def __repr__(self) -> str:
        return f"LocalJudge({self.model!r}, device={self.device!r}, dtype={self.dtype!r})"

    def __call__(self, answered: Sequence[Answered]) -> list[Verdict]:
        return judge_all(answered, self._ask)

    def _ask(self, prompts: Sequence[Messages]) -> list[Verdict]:
        reader = _reader(self.model, self.device, self.dtype, self.trust_remote_code)
        return reader.verdicts(prompts, self.batch_size, self.on_refused)


@functools.lru_cache(maxsize=2)
def _reader(model: str, device: str, dtype: str, trust_remote_code: bool) -> _Reader:
    """The model, loaded once a process."""
    return _Reader(model, *load_base(model, device, dtype, trust_remote_code))


class _Reader:
    """A loaded model and its verdicts so far."""

    def __init__(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise ValueError(f"local-judge: {name!r} has no chat template; give an instruct model")
        self.name = name
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.head, self.yes, self.no = self._words()
        self.longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.known: dict[str, bool] = {}

    def verdicts(self, prompts: Sequence[Messages], batch_size: int, on_refused: str) -> list[Verdict]:
        texts = [self.text(prompt) for prompt in prompts]
        unknown = {text: self.tokens(text) for text in texts if text not in self.known}
        too_long = [text for text, tokens in unknown.items() if self.is_too_long(tokens)]
        if too_long:
            self._check_readable(len(unknown[too_long[0]]), on_refused)
            counts = f"{len(too_long)} of {len(unknown)} answers"
            reads = f"{self.longest} tokens are read, these prompts have more"
            _log.warning("local-judge %r: on_refused=%r holds for %s: %s", self.name, on_refused, counts, reads)
        refused = dict.fromkeys(too_long, UNGRADED if on_refused == "skip" else False)
        unknown = {text: tokens for text, tokens in unknown.items() if text not in refused}
        order = sorted(unknown, key=lambda text: len(unknown[text]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            for text, margin in zip(batch, self.margins([unknown[text] for text in batch])):
                if margin == margin:  # NaN: there is no verdict
                    self.known[text] = margin > 0
        return [refused.get(text, self.known.get(text)) for text in texts]

    def is_too_long(self, tokens: Sequence[int]) -> bool:
        return self.longest is not None and len(tokens) > self.longest

    def _check_readable(self, tokens: int, on_refused: str) -> None:
        """Raise a ValueError where a prompt of so many tokens is too long not for its own sake, or must not be."""
        least = self.tokens(self.text(TEST_PROMPT))
        if self.is_too_long(least):
            raise ValueError(
                f"local-judge: even a short question takes {len(least)} tokens, and {self.name!r} reads {self.longest}:"
                " take a model that reads more"
            )
        if on_refused == "error":
            raise ValueError(
                f"local-judge: a question and its answers take {tokens} tokens, {self.name!r} reads {self.longest}"
                " (on_refused='skip' or 'wrong' goes on without it)"
            )

    def text(self, prompt: Messages) -> str:
        """The prompt in the chat template; where that has no place for the system's message, before the user's."""
        try:
            text = self._template(prompt)
        except TemplateError:
            text = ""
        if prompt[0]["content"] in text:
            return text
        return self._template([{"role": "user", "content": "\n\n".join(message["content"] for message in prompt)}])

    @torch.inference_mode()
    def margins(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """By how much yes is likelier than no after each sequence, as a difference of log-probabilities."""
        lengths = torch.tensor([len(tokens) for tokens in sequences], device=self.model.device)
        ids = torch.zeros(len(sequences), int(lengths.max()), dtype=torch.long, device=self.model.device)
        for row, tokens in zip(ids, sequences):
            row[: len(tokens)] = torch.tensor(tokens)
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        ends, which = (lengths - 1).unique(return_inverse=True)
        options = {"logits_to_keep": ends} if self.keeps else {}
        logits = self.model(input_ids=ids, attention_mask=mask.long(), use_cache=False, **options).logits
        last = logits[torch.arange(len(sequences), device=ids.device), which if self.keeps else lengths - 1].float()
        return (last[:, self.yes] - last[:, self.no]).tolist()

    def _template(self, prompt: Messages) -> str:
        # Models that can think first are told not to; the templates of others do not look at this.
        return self.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True, enable_thinking=False)

    def tokens(self, text: str) -> list[int]:
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], *self.head]

    def _words(self) -> tuple[list[int], int, int]:
        """What yes and no begin with alike (mostly nothing), and the first tokens that differ.

        A model that may say nothing but one of the words has chosen when it says that token.
        """
        yes, no = (self.tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("yes", "no"))
        for i, (yes_id, no_id) in enumerate(zip(yes, no)):
            if yes_id != no_id:
                return yes[:i], yes_id, no_id
        raise ValueError(f"local-judge: the tokenizer of {self.name!r} does not tell yes from no")
