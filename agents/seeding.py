"""Independent random streams by name: draws for one purpose do not change those for another.

The seed of an edit is derived from its task, not from its batch, so results do not depend on ``num_envs``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Iterable

import numpy as np


def derive_seed(seed: int, *stream: int | str) -> int:
    """A seed from 0 to 2^62 - 1 for a named stream, such as ``("collect", 3)``.

    Args:
        seed: seed of the run.
        stream: name of the stream.
    """
    digest = hashlib.blake2b(json.dumps([seed, *stream]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


def generator(seed: int, *stream: int | str) -> np.random.Generator:
    """A random generator for a named stream; see :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *stream))


def task_seeds(seed: int, tasks: Iterable[Hashable], *stream: int | str) -> list[int]:
    """A seed for each task, independent of the other tasks and their order; a repeated task gets another seed each time.

    Args:
        seed: seed of the run.
        tasks: task indices, or tuples of them for episodes of several tasks.
        stream: name of the stream.
    """
    seen: Counter[Hashable] = Counter()
    seeds = []
    for task in tasks:
        name = [int(i) for i in task] if isinstance(task, tuple) else [int(task)]  # type: ignore[call-overload]
        seeds.append(derive_seed(seed, *stream, *name, seen[task]))
        seen[task] += 1
    return seeds
