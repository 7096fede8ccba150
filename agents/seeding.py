"""Random streams by name, so that what is drawn for one purpose depends on nothing else that is drawn.

The seed of an edit comes from its task, not from the batch that it is scored in: how many sub-environments run side by side
changes no result.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Iterable

import numpy as np


def derive_seed(seed: int, *stream: int | str) -> int:
    """A seed from 0 to 2^62 - 1 for the stream of this name, such as ``("collect", 3)``.

    Args:
        seed: of the whole run.
        stream: what it is for; streams of other names are independent.
    """
    digest = hashlib.blake2b(json.dumps([seed, *stream]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


def generator(seed: int, *stream: int | str) -> np.random.Generator:
    """A random generator for the stream of this name; see :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *stream))


def task_seeds(seed: int, tasks: Iterable[Hashable], *stream: int | str) -> list[int]:
    """A seed for each of ``tasks``, which is the same wherever the task stands among the others.

    A task that occurs several times gets another seed each time.

    Args:
        seed: of the whole run.
        tasks: indices of tasks, or tuples of them for episodes of several.
        stream: what the seeds are for.
    """
    seen: Counter[Hashable] = Counter()
    seeds = []
    for task in tasks:
        name = [int(i) for i in task] if isinstance(task, tuple) else [int(task)]  # type: ignore[call-overload]
        seeds.append(derive_seed(seed, *stream, *name, seen[task]))
        seen[task] += 1
    return seeds
