"""The workload of `seal-bench speed`: updates with SEAL's lengths, and prompts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from seal_env.update import TokenExample, Update, UpdateConfig

# Characters per token in SEAL's texts, so that the mean sequence has the published ~51 tokens.
_CHARACTERS_PER_TOKEN = 4.45


def edit_lengths(source: str, edits: int, seed: int) -> list[list[int]]:
    """Sequence lengths, in tokens, of ``edits`` self-edits.

    Args:
        source: ``seal``: sampled from distributions that were fitted to SEAL's published edits (8.7 sequences per edit, with
            the passage; median length 32, mean 51, 95th percentile 185 tokens); a JSON file or a folder of SEAL's recorded
            runs: the recorded edits; or ``uniform:LOW-HIGH``: eight sequences of such lengths.
        edits: number of edits.
        seed: of the sampling.

    Raises:
        ValueError: ``source`` is none of these.
    """
    rng = random.Random(seed)
    if source == "seal":
        return [_seal_like(rng) for _ in range(edits)]
    if source.startswith("uniform:"):
        low, dash, high = source.removeprefix("uniform:").partition("-")
        if not (dash and low.isdigit() and high.isdigit() and 2 <= int(low) <= int(high)):
            raise ValueError(f"--lengths {source!r}: write uniform:LOW-HIGH with 2 <= LOW <= HIGH, such as uniform:8-64")
        return [[rng.randint(int(low), int(high)) for _ in range(8)] for _ in range(edits)]
    path = Path(source)
    files = [path] if path.is_file() else sorted(path.glob("**/rank_iter0.json"))
    if not files:
        raise ValueError(f"--lengths {source!r}: neither 'seal', 'uniform:LOW-HIGH' nor a file or folder of SEAL's runs")
    lengths = []
    for article in json.loads(files[0].read_text())["articles"]:
        for completion in article["completions"]:
            segments = [line for line in completion["text"].split("\n") if line.strip()] + [article["context"]]
            lengths.append([max(2, round(len(f"{article['title']}\n{s}") / _CHARACTERS_PER_TOKEN)) for s in segments])
    return rng.sample(lengths, edits) if edits <= len(lengths) else rng.choices(lengths, k=edits)


def _seal_like(rng: random.Random) -> list[int]:
    sentences = max(1, min(66, round(rng.lognormvariate(1.9, 0.5))))
    lengths = [max(6, round(rng.lognormvariate(3.4, 0.4))) for _ in range(sentences)]
    return [*lengths, max(30, min(374, round(rng.lognormvariate(5.1, 0.4))))]


def make_updates(lengths: list[list[int]], vocab_size: int, settings: dict[str, object]) -> list[Update]:
    """An update of random tokens for each edit, with SEAL's settings but for ``settings`` of :class:`UpdateConfig`."""
    config = UpdateConfig(**settings)  # type: ignore[arg-type]
    updates = []
    for seed, edit in enumerate(lengths):
        rng = random.Random(seed)
        examples = [TokenExample(tuple(rng.randrange(2, vocab_size) for _ in range(n))) for n in edit]
        updates.append(Update(examples, config, seed))
    return updates


def make_prompts(
    edits: int, questions: int, encode: Callable[[str], list[int]]
) -> tuple[list[list[str]], list[list[list[int]]]]:
    """SEAL's question prompt, ``questions`` for each edit, as text and as token ids."""
    texts = [
        [
            f"Let's answer a question directly and concisely.\nQuestion: Topic: {i}\nWhat is {j}?\nAnswer:\n"
            for j in range(questions)
        ]
        for i in range(edits)
    ]
    return texts, [[encode(text) for text in group] for group in texts]
