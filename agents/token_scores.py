"""Log-probabilities and entropies of tokens, whose logits are computed chunk by chunk in the forward and the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Logits that are computed at a time, in float32. Forward and backward pass hold a few tensors of this size.
CHUNK_BYTES = 64 << 20


def token_scores(
    logits: Callable[[Tensor], Tensor], hidden: Tensor, ids: Tensor, vocabulary: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of tokens, and entropies of the distributions that they were drawn from.

    The backward pass computes the logits again.

    Args:
        logits: from inputs of the head ``(n, hidden_size)`` to logits ``(n, vocabulary)``.
        hidden: ``(tokens, hidden_size)`` inputs of the head.
        ids: ``(tokens,)`` token ids.
        vocabulary: number of logits of a token, which decides how many tokens make a chunk.
        temperature: the logits are divided by it.

    Returns:
        Log-probabilities and entropies in nats, ``(tokens,)`` in float32 each.
    """

    def chunk_scores(hidden: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        scaled = logits(hidden).float()
        return _TokenScores.apply(scaled if temperature == 1 else scaled / temperature, ids)

    size = max(1, CHUNK_BYTES // (4 * vocabulary))
    chunks = [
        checkpoint(chunk_scores, *chunk, use_reentrant=False, preserve_rng_state=False)
        for chunk in zip(hidden.split(size), ids.split(size))
    ]
    log_probs, entropies = zip(*chunks)
    return torch.cat(log_probs), torch.cat(entropies)


class _TokenScores(torch.autograd.Function):
    """Log-probabilities and entropies of logits ``(n, vocabulary)``; gradients of one of them do not cost the other's."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        log_softmax = torch.log_softmax(logits, -1)
        entropies = -log_softmax.exp().mul_(log_softmax).sum(-1)
        ctx.save_for_backward(log_softmax, ids, entropies)
        return log_softmax.gather(1, ids[:, None]).squeeze(1), entropies

    @staticmethod
    def backward(ctx: Any, d_log_probs: Tensor | None, d_entropies: Tensor | None) -> tuple[Tensor, None]:
        log_softmax, ids, entropies = ctx.saved_tensors
        gradient = log_softmax.exp()
        if d_log_probs is None:
            d_log_probs = torch.zeros_like(entropies)
        if d_entropies is None:
            gradient.mul_(-d_log_probs[:, None])
        else:
            slopes = (log_softmax + entropies[:, None]).mul_(d_entropies[:, None]).add_(d_log_probs[:, None])
            gradient.mul_(slopes.neg_())
        return gradient.scatter_add_(1, ids[:, None], d_log_probs[:, None]), None
