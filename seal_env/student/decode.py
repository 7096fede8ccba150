"""Greedy decoding and scoring of many prompts, each with its own adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seal_env.student.network import Network

# Rows leave the batch once this share of it has finished: leaving costs a copy of the others' caches.
_LEAVE_SHARE = 0.2


@dataclass(frozen=True)
class Answer:
    """What the model wrote after a prompt.

    Attributes:
        text: the decoded tokens, without special tokens, cut before the stop string.
        ids: the generated token ids, the end-of-sequence token left out.
        finish: ``eos``, ``stop`` (a stop string appeared) or ``length``.
    """

    text: str
    ids: tuple[int, ...]
    finish: Literal["eos", "stop", "length"]


def greedy(
    network: Network,
    tokenizer: PreTrainedTokenizerBase,
    adapters: Tensor,
    adapter_of_row: list[int],
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: Sequence[str],
    eos_ids: frozenset[int],
) -> list[Answer]:
    """Decode ``prompts`` (token ids, at least one each) in one batch; ``adapter_of_row`` ascends."""
    device = network.device
    session = network.decode(adapters, adapter_of_row, prompts, max_new_tokens)
    generated: list[list[int]] = [[] for _ in prompts]
    answers: list[Answer | None] = [None] * len(prompts)
    live = list(range(len(prompts)))  # which prompt each row of the session belongs to
    logits = session.prefill()
    while True:
        tokens = logits.argmax(-1)
        for row, token in zip(live, tokens.tolist()):
            if answers[row] is not None:
                continue
            if token not in eos_ids:
                generated[row].append(token)
            answers[row] = _finished(tokenizer, generated[row], token in eos_ids, max_new_tokens, stop)
        still = [i for i, row in enumerate(live) if answers[row] is None]
        if not still:
            break
        if len(live) - len(still) >= _LEAVE_SHARE * len(live):
            keep = torch.tensor(still, device=device)
            session.keep(keep)
            tokens = tokens.index_select(0, keep)
            live = [live[i] for i in still]
        logits = session.step(tokens)
    return [answer for answer in answers if answer is not None]


def _finished(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], at_eos: bool, max_new_tokens: int, stop: Sequence[str]
) -> Answer | None:
    if not (at_eos or stop or len(ids) >= max_new_tokens):
        return None
    text = tokenizer.decode(ids, skip_special_tokens=True)
    cuts = [text.index(s) for s in stop if s in text]
    if cuts:
        return Answer(text[: min(cuts)], tuple(ids), "stop")
    if at_eos or len(ids) >= max_new_tokens:
        return Answer(text, tuple(ids), "eos" if at_eos else "length")
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
    length = max(16, max(len(row) for row in rows))
    tokens = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=network.device)
    log_probs = network.token_log_probs(adapters, adapter_of_row, tokens)
    return [
        log_prob[len(prompt) - 1 : len(row) - 1].double().sum().item()
        for log_prob, prompt, row in zip(log_probs, prompts, rows)
    ]
