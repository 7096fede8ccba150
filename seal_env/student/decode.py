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

# Rows leave the batch once this share of it has finished: leaving costs a copy of the others' caches.
_LEAVE_SHARE = 0.2
# So many of the likeliest tokens are looked at before the whole vocabulary is.
_LIKELIEST = 64


@dataclass(frozen=True)
class Answer:
    """What the model wrote after a prompt.

    Attributes:
        text: the decoded tokens, without special tokens, cut before the stop string.
        ids: the generated token ids, the end-of-sequence token left out.
        finish: ``eos``, ``stop`` (a stop string appeared) or ``length``.
        eos: the end-of-sequence token that was generated (a model may have several), if ``finish`` is ``eos``.
    """

    text: str
    ids: tuple[int, ...]
    finish: Literal["eos", "stop", "length"]
    eos: int | None = None


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: what logits are divided by.
        top_p: tokens are drawn from the smallest set of the likeliest ones that holds this much probability.

    Raises:
        ValueError: a temperature that is not positive, or a ``top_p`` outside (0, 1].
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature!r}; for greedy answers use Student.answer")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")

    def draw(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """A token a row of ``logits: (rows, vocabulary)``, by the row's number in ``uniforms: (rows,)`` from [0, 1)."""
        probs = torch.softmax(logits.double() / self.temperature, -1)
        if self.top_p == 1.0:  # nothing is left out, so that nothing need be sorted
            cumulative = probs.cumsum(-1)
            shares = uniforms.to(cumulative)[:, None] * cumulative[:, -1:]
            chosen = torch.searchsorted(cumulative, shares, right=True).squeeze(1)
            return chosen.where(chosen < probs.shape[1], probs.argmax(-1))  # where rounding went past the last one
        # Sorting a whole vocabulary is slow, and the likeliest tokens mostly hold enough probability.
        few = min(_LIKELIEST, probs.shape[1])
        top, order = probs.topk(few)
        enough = top.sum(-1) >= self.top_p
        drawn = self._pick(top, order, uniforms)
        if not enough.all():
            rest = ~enough
            top, order = torch.sort(probs[rest], dim=-1, descending=True, stable=True)
            drawn[rest] = self._pick(top, order, uniforms[rest])
        return drawn

    def _pick(self, probs: Tensor, order: Tensor, uniforms: Tensor) -> Tensor:
        """By ``probs: (rows, tokens)``, descending, of the tokens ``order``."""
        cumulative = probs.cumsum(-1)
        kept = (cumulative - probs < self.top_p).sum(-1, keepdim=True)
        mass = cumulative.gather(1, kept - 1)
        # The first token whose cumulative probability exceeds the share of the mass; rounding never goes past the last one.
        chosen = torch.searchsorted(cumulative, uniforms.to(cumulative)[:, None] * mass, right=True).minimum(kept - 1)
        return order.gather(1, chosen).squeeze(1)


class _Draws:
    """The tokens of rows that each have a generator of their own: what a row draws does not depend on its neighbours."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int], max_new_tokens: int, device: torch.device) -> None:
        self.sampling = sampling
        rows = [torch.rand(max_new_tokens, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds]
        self.uniforms = torch.stack(rows).to(device)
        self.time = 0

    def __call__(self, logits: Tensor) -> Tensor:
        self.time += 1
        return self.sampling.draw(logits, self.uniforms[:, self.time - 1])

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        self.uniforms = self.uniforms.index_select(0, rows)


class _Likeliest:
    """The likeliest token of each row."""

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    def keep(self, rows: Tensor) -> None:
        """Nothing is known of any row."""


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
    """Decode ``prompts`` (token ids, at least one each) in one batch; ``adapter_of_row`` ascends.

    Greedily, or by ``sampling`` with a seed a prompt. Tokens are read ``read_every`` at a time: on a GPU each reading waits for
    all that was launched. What a row goes on to write after its end is left out, and changes no other row.
    """
    device = network.device
    choose = _Draws(sampling, seeds, max_new_tokens, device) if sampling else _Likeliest()
    session = network.decode(adapters, adapter_of_row, prompts, max_new_tokens)
    generated: list[list[int]] = [[] for _ in prompts]
    answers: list[Answer | None] = [None] * len(prompts)
    live = list(range(len(prompts)))  # which prompt each row of the session belongs to
    unread: list[Tensor] = []
    logits = session.prefill()
    for time in range(1, max_new_tokens + 1):
        tokens = choose(logits)
        unread.append(tokens)
        if len(unread) == read_every or time == max_new_tokens:
            for written in torch.stack(unread).tolist():
                for row, token in zip(live, written):
                    if answers[row] is not None:
                        continue
                    eos = token if token in eos_ids else None
                    if eos is None:
                        generated[row].append(token)
                    answers[row] = _finished(tokenizer, generated[row], eos, max_new_tokens, stop)
            unread.clear()
            still = [i for i, row in enumerate(live) if answers[row] is None]
            if not still:
                break
            if len(live) - len(still) >= _LEAVE_SHARE * len(live):
                keep = torch.tensor(still, device=device)
                session.keep(keep)
                choose.keep(keep)
                tokens = tokens.index_select(0, keep)
                live = [live[i] for i in still]
        logits = session.step(tokens)
    return [answer for answer in answers if answer is not None]


def _finished(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], eos: int | None, max_new_tokens: int, stop: Sequence[str]
) -> Answer | None:
    if eos is None and not stop and len(ids) < max_new_tokens:
        return None
    text = tokenizer.decode(ids, skip_special_tokens=True)
    cuts = [text.index(s) for s in stop if s in text]
    if cuts:
        return Answer(text[: min(cuts)], tuple(ids), "stop")
    if eos is not None:
        return Answer(text, tuple(ids), "eos", eos)
    if len(ids) >= max_new_tokens:
        return Answer(text, tuple(ids), "length")
    return None


def answer_log_likelihoods(
    network: Network,
    adapters: Tensor,
    adapter_of_row: list[int],
    prompts: list[list[int]],
    answers: list[list[int]],
) -> list[float]:
    """Summed log-probability (nats) of each answer's tokens after its prompt; ``adapter_of_row`` ascends."""
    rows = [prompt + answer for prompt, answer in zip(prompts, answers)]
    classes = [network.length_class(len(row)) for row in rows]
    values = [0.0] * len(rows)
    for chosen in sorted(set(classes)):
        batch = [i for i, own in enumerate(classes) if own == chosen]
        used, owners = keep_rows(adapter_of_row, batch)
        length = max(16, max(len(rows[i]) for i in batch))
        tokens = torch.tensor([rows[i] + [0] * (length - len(rows[i])) for i in batch], device=network.device)
        for i, log_probs in zip(batch, network.token_log_probs(adapters[used], owners, tokens)):
            values[i] = log_probs[len(prompts[i]) - 1 : len(rows[i]) - 1].double().sum().item()
    return values
