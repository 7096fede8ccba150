"""How prompts are read before decoding: chunks of tokens, in which equal prompts and common beginnings stand once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seal_env.student.groups import Groups, Sequences


@dataclass
class PromptChunk:
    """Tokens that are read together: sequences one after the other, sorted by adapter.

    Attributes:
        tokens: of all sequences.
        first_adapter: the adapter of the first sequence.
        counts: tokens of this and each following adapter.
        lengths: tokens of each sequence.
        prefixes: first token and number of tokens of what each sequence continues.
        spans: for each prompt its row of the session, then first token and number of tokens of its prefix and of the rest.
    """

    first_adapter: int
    tokens: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    prefixes: list[tuple[int, int]] = field(default_factory=list)
    spans: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    @property
    def adapters(self) -> slice:
        """The adapters of the chunk, which are adjacent."""
        return slice(self.first_adapter, self.first_adapter + len(self.counts))

    @property
    def rows(self) -> list[int]:
        """The rows of the session whose prompts the chunk has."""
        return [row for row, *_ in self.spans]

    @property
    def last_tokens(self) -> list[int]:
        """The last token of each prompt, in the order of :attr:`rows`."""
        return [start + length - 1 for *_, start, length in self.spans]

    def groups(self, device: torch.device) -> Groups:
        return Groups(self.counts, device)

    def sequences(self, device: torch.device) -> Sequences:
        shared = any(length for _, length in self.prefixes)
        return Sequences(self.lengths, device, self.prefixes if shared else None)

    def entries(self) -> Tensor:
        """Token, row and position of every token of every prompt, ``(entries, 3)``."""
        parts = []
        for row, prefix, before, start, length in self.spans:
            position = torch.arange(before + length)
            token = torch.cat([torch.arange(prefix, prefix + before), torch.arange(start, start + length)])
            parts.append(torch.stack([token, torch.full_like(token, row), position], 1))
        return torch.cat(parts)

    def add(self, adapter: int, tokens: Sequence[int], prefix: tuple[int, int] = (0, 0)) -> int:
        """Append a sequence; returns its first token."""
        start = len(self.tokens)
        self.counts += [0] * (adapter - self.first_adapter + 1 - len(self.counts))
        self.counts[-1] += len(tokens)
        self.tokens += tokens
        self.lengths.append(len(tokens))
        self.prefixes.append(prefix)
        return start


def prompt_chunks(
    prompts: Sequence[Sequence[int]], adapter_of_row: Sequence[int], limit: int, shared: int
) -> Iterator[PromptChunk]:
    """Chunks of at most ``limit`` tokens, or of a single prompt, that have every prompt.

    Args:
        prompts: token ids of each row of a session.
        adapter_of_row: the adapter of each row, which ascends.
        limit: tokens of a chunk.
        shared: longest prompts whose common beginning may be shared. With 0 none is, and all sequences have the length of the
            longest prompt, padded on the right.
    """
    rows_of: dict[int, dict[tuple[int, ...], list[int]]] = {}  # by adapter and prompt
    for row, (prompt, adapter) in enumerate(zip(prompts, adapter_of_row)):
        rows_of.setdefault(adapter, {}).setdefault(tuple(prompt), []).append(row)
    longest = max(map(len, prompts))
    chunk = PromptChunk(adapter_of_row[0])
    for adapter, by_prompt in rows_of.items():
        before = _common(list(by_prompt)) if longest <= shared else 0
        prefix: int | None = None  # where it begins in the chunk
        for prompt, rows in by_prompt.items():
            tokens = prompt[before:] if longest <= shared else prompt + (0,) * (longest - len(prompt))
            if chunk.tokens and len(chunk.tokens) + len(tokens) + (before if prefix is None else 0) > limit:
                yield chunk
                chunk, prefix = PromptChunk(adapter), None
            if before and prefix is None:
                prefix = chunk.add(adapter, prompt[:before])
            start = chunk.add(adapter, tokens, (prefix or 0, before))
            chunk.spans += [(row, prefix or 0, before, start, len(prompt) - before) for row in rows]
    yield chunk


def _common(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens that all of several prompts begin with, leaving each at least one of its own."""
    if len(prompts) < 2:
        return 0
    least, most = min(prompts), max(prompts)  # those that differ first
    end = min(map(len, prompts)) - 1
    return next((i for i in range(end) if least[i] != most[i]), end)
