"""Decoding, greedy or sampled, and scoring of many prompts, each with its own adapter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seal_env.student.groups import keep_rows
from seal_env.student.network import Network

# Finished rows are removed once they are this share of the batch, because it costs a copy of the others' caches.
_LEAVE_SHARE = 0.2
# Number of likeliest tokens that top-p tries before it sorts the whole vocabulary.
_LIKELIEST = 64


@dataclass(frozen=True)
class Answer:
    """A completion of a prompt.

    Attributes:
        text: the decoded tokens, without special tokens, cut before the stop string.
        ids: the generated token ids, without the end-of-sequence token.
        finish: ``eos``, ``stop`` (a stop string appeared) or ``length``.
        eos: the generated end-of-sequence token (a model may have several), if ``finish`` is ``eos``.
    """

    text: str
    ids: tuple[int, ...]
    finish: Literal["eos", "stop", "length"]
    eos: int | None = None


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled.

    Attributes:
        temperature: divides the logits.
        top_p: tokens are sampled from the smallest set of the likeliest ones with at least this probability.

    Raises:
        ValueError: ``temperature`` is not positive, or ``top_p`` is outside (0, 1].
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature!r}; for greedy answers use Student.answer")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")

    def draw(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """One token for each row of ``logits: (rows, vocabulary)``, given ``uniforms: (rows,)`` in [0, 1)."""
        probs = torch.softmax(logits.double() / self.temperature, -1)
        if self.top_p == 1.0:  # without sorting
            cumulative = probs.cumsum(-1)
            shares = uniforms.to(cumulative)[:, None] * cumulative[:, -1:]
            chosen = torch.searchsorted(cumulative, shares, right=True).squeeze(1)
            return chosen.where(chosen < probs.shape[1], probs.argmax(-1))  # rounding may go past the last token
        # Sorting a whole vocabulary is slow, and the likeliest tokens mostly have enough probability.
        top, order = probs.topk(min(_LIKELIEST, probs.shape[1]))
        tokens = self._pick(top, order, uniforms)
        rest = top.sum(-1) < self.top_p
        if rest.any():
            top, order = torch.sort(probs[rest], dim=-1, descending=True, stable=True)
            tokens[rest] = self._pick(top, order, uniforms[rest])
        return tokens

    def _pick(self, probs: Tensor, order: Tensor, uniforms: Tensor) -> Tensor:
        """Sample by ``probs: (rows, tokens)``, in descending order; ``order`` has the token ids."""
        cumulative = probs.cumsum(-1)
        kept = (cumulative - probs < self.top_p).sum(-1, keepdim=True)
        mass = cumulative.gather(1, kept - 1)
        # The first token whose cumulative probability exceeds the share of the mass; rounding may go past the last kept token.
        chosen = torch.searchsorted(cumulative, uniforms.to(cumulative)[:, None] * mass, right=True).minimum(kept - 1)
        return order.gather(1, chosen).squeeze(1)


def decode(
    network: Network,
    tokenizer: PreTrainedTokenizerBase,
    adapters: Tensor,
    adapter_of_row: list[int],
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: Sequence[str],
    eos_ids: frozenset[int],
    sampling: Sampling | None = None,
    seeds: Sequence[int] = (),
    read_every: int = 1,
) -> list[Answer]:
    """Decode ``prompts`` (token ids, not empty) in one batch; ``adapter_of_row`` ascends.

    Decoding is greedy, or by ``sampling`` with a seed for each prompt. Tokens are read ``read_every`` at a time, because on a
    GPU each reading waits for all kernels that were launched. Tokens after the end of a row are dropped, and change no other
    row.
    """
    device = network.device
    uniforms = torch.zeros(len(prompts), 0, device=device)
    if sampling:  # a generator for each row, so that its samples do not depend on other rows
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        rows = [torch.rand(max_new_tokens, generator=generator, dtype=torch.float64) for generator in generators]
        uniforms = torch.stack(rows).to(device)
    session = network.decode(adapters, adapter_of_row, prompts, max_new_tokens)
    generated: list[list[int]] = [[] for _ in prompts]
    answers: list[Answer | None] = [None] * len(prompts)
    live = list(range(len(prompts)))  # the prompt of each row of the session
    unread: list[Tensor] = []
    logits = session.prefill()
    for time in range(1, max_new_tokens + 1):
        tokens = sampling.draw(logits, uniforms[:, time - 1]) if sampling else logits.argmax(-1)
        unread.append(tokens)
        if len(unread) == read_every or time == max_new_tokens:
            for step in torch.stack(unread).tolist():
                for row, token in zip(live, step):
                    if answers[row] is not None:
                        continue
                    eos = token if token in eos_ids else None
                    if eos is None:
                        generated[row].append(token)
                    answers[row] = _finished(tokenizer, generated[row], eos, max_new_tokens, stop)
            unread.clear()
            unfinished = [i for i, row in enumerate(live) if answers[row] is None]
            if not unfinished:
                break
            if len(live) - len(unfinished) >= _LEAVE_SHARE * len(live):
                keep = torch.tensor(unfinished, device=device)
                session.keep(keep)
                uniforms, tokens = uniforms.index_select(0, keep), tokens.index_select(0, keep)
                live = [live[i] for i in unfinished]
        logits = session.step(tokens)
    return [answer for answer in answers if answer is not None]


def _finished(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], eos: int | None, max_new_tokens: int, stop: Sequence[str]
) -> Answer | None:
    if eos is None and not stop and len(ids) < max_new_tokens:
        return None
    text = tokenizer.decode(ids, skip_special_tokens=True)
    if cuts := [text.index(s) for s in stop if s in text]:
        return Answer(text[: min(cuts)], tuple(ids), "stop")
    if eos is not None:
        return Answer(text, tuple(ids), "eos", eos)
    return Answer(text, tuple(ids), "length") if len(ids) >= max_new_tokens else None


def answer_log_likelihoods(
    network: Network, adapters: Tensor, adapter_of_row: list[int], prompts: list[list[int]], answers: list[list[int]]
) -> list[float]:
    """Summed log-probability (nats) of each answer's tokens after its prompt; ``adapter_of_row`` ascends."""
    rows = [prompt + answer for prompt, answer in zip(prompts, answers)]
    classes = [network.length_class(len(row)) for row in rows]
    values = [0.0] * len(rows)
    for length_class in sorted(set(classes)):
        batch = [i for i, row_class in enumerate(classes) if row_class == length_class]
        used, owners = keep_rows(adapter_of_row, batch)
        length = max(16, max(len(rows[i]) for i in batch))
        tokens = torch.tensor([rows[i] + [0] * (length - len(rows[i])) for i in batch], device=network.device)
        for i, log_probs in zip(batch, network.token_log_probs(adapters[used], owners, tokens)):
            values[i] = log_probs[len(prompts[i]) - 1 : len(rows[i]) - 1].double().sum().item()
    return values
