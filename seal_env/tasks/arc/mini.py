"""mini-arc: generated ARC-like tasks on small grids; the rule of a task is a composition of two rules.

mini = MiniArc(MiniArcConfig(seed=0))
task = mini.task("test", 0)          # the same in every call
task.demonstrations, task.tests

The bundled student was trained on single rules of most kinds (``KNOWN``), and on no composition. A split is a set of *pairs of
kinds*, so that no pair of ``test`` occurs in training. No split has compositions that are the same function as a single rule or
as a composition of another split (``flip`` after ``rotate`` is a transposition), even after all grids are shifted: a task is a
new function from grids to grids and not only a new name.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations_with_replacement, product

from seal_env.checks import check_choice
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grids import COLOURS, Grid
from seal_env.tasks.arc.rules import KINDS, Composition, all_rules, compose, draw_rule, shift
from seal_env.tasks.sources import TaskSource, check_split
from seal_env.tasks.task import SPLITS

# The kinds that are composed. An update of a student of this size learns few compositions of the other kinds (measured on
# training tasks: 7 % with swap_colours, 30 % with gravity and sort), or their outputs are nearly empty (keep).
COMPOSED = tuple(kind for kind in KINDS if kind not in ("gravity", "sort", "swap_colours", "keep"))
_SHARES = {"train": 0.45, "validation": 0.1, "test": 0.45}
_PROBED_CELLS = 216  # of the grids that tell functions apart: 24 of 3 x 3
_TRIES = 50
_MOVES = tuple((down, right) for down in range(3) for right in range(3))  # all shifts on 3 x 3

Fingerprint = tuple[Grid, ...]
Kinds = frozenset[str]


@dataclass(frozen=True)
class MiniArcConfig:
    """The tasks of mini-arc.

    Attributes:
        seed: of the tasks; it does not change the splits.
        height: rows of the grids, 3 to 10; on smaller grids, functions of several splits are the same.
        width: columns of the grids, 3 to 10.
        demonstrations: number of demonstrations, 1 to 10.
        tests: number of tests, 1 to 10.

    Raises:
        ValueError: a value out of range.
    """

    seed: int = 0
    height: int = 3
    width: int = 3
    demonstrations: int = 3
    tests: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be an integer, got {self.seed!r}")
        for name, least, most in (("height", 3, 10), ("width", 3, 10), ("demonstrations", 1, 10), ("tests", 1, 10)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise ValueError(f"{name} must be an integer from {least} to {most}, got {value!r}")


def load(split: str, *, mini_arc: MiniArcConfig | None = None) -> TaskSource:
    """The dataset ``mini-arc``: the endless tasks of a split."""
    check_split(split)
    if not isinstance(mini_arc, MiniArcConfig | None):
        raise ValueError(f"mini_arc must be a MiniArcConfig, got {mini_arc!r}")
    return TaskSource("mini-arc", partial(MiniArc(mini_arc).task, split))


class MiniArc:
    """See the module's docstring."""

    def __init__(self, config: MiniArcConfig | None = None) -> None:
        self.config = config or MiniArcConfig()

    def task(self, split: str, index: int) -> ArcTask:
        """Task ``index`` of a split.

        Raises:
            ValueError: no such split or index.
        """
        _, pairs = self._drawn(split, index)
        count = self.config.demonstrations
        return ArcTask.of(f"mini-arc-{self.config.seed}-{split}-{index}", pairs[:count], pairs[count:])

    def rules(self, split: str, index: int) -> Composition:
        """The rules that task ``index`` of a split composes."""
        return self._drawn(split, index)[0]

    def _drawn(self, split: str, index: int) -> tuple[Composition, list[Pair]]:
        check_choice("split", split, SPLITS)
        if not isinstance(index, int) or index < 0:
            raise ValueError(f"index must be an integer >= 0, got {index!r}")
        config = self.config
        rng = random.Random(f"mini-arc/{config.seed}/{split}/{index}")
        while True:
            rules = draw_composition(rng, split, config.height, config.width)
            count = config.demonstrations + config.tests
            pairs = draw_pairs(rng, rules, count, config.height, config.width, config.demonstrations)
            if pairs is not None:
                return rules, pairs


@cache
def splits() -> dict[str, tuple[Kinds, ...]]:
    """The unordered pairs of kinds of each split."""
    pairs = sorted({frozenset(both) for both in combinations_with_replacement(COMPOSED, 2)}, key=sorted)
    random.Random("mini-arc").shuffle(pairs)
    by_split, first = {}, 0.0
    for name, share in _SHARES.items():
        by_split[name] = tuple(pairs[round(first * len(pairs)) : round((first + share) * len(pairs))])
        first += share
    return by_split


def draw_composition(rng: random.Random, split: str, height: int, width: int) -> Composition:
    """Two rules of a pair of kinds of this split, whose composition is a new function on grids of this size."""
    while True:
        order = list(_both(rng.choice(splits()[split])))
        rng.shuffle(order)
        rules = tuple(draw_rule(rng, kind) for kind in order)
        if _is_new(_canonical(rules), split, height, width):
            return rules


def _both(kinds: Kinds) -> tuple[str, str]:
    """The kinds of a pair, which may be one kind twice."""
    first, second = (sorted(kinds) * 2)[:2]
    return first, second


def draw_pairs(
    rng: random.Random, rules: Composition, count: int, height: int, width: int, demonstrations: int | None = None
) -> list[Pair] | None:
    """Distinct inputs with their outputs; None if no inputs were found on which every rule matters.

    The rules change each input, and all of them are needed to explain the first ``demonstrations`` pairs (None: all pairs).
    """
    colours = [colour for rule in rules for colour in rule.colours]
    pairs: list[Pair] = []
    for _ in range(_TRIES):
        grid = draw_grid(rng, colours, height, width)
        pair = Pair(grid, compose(rules, grid))
        if pair.output != grid and len({c for row in pair.output for c in row}) > 1 and pair not in pairs:
            pairs.append(pair)
        if len(pairs) == count:
            simpler = [rules[:i] + rules[i + 1 :] for i in range(len(rules))] if len(rules) > 1 else []
            return (
                None
                if any(all(compose(r, pair.input) == pair.output for pair in pairs[:demonstrations]) for r in simpler)
                else pairs
            )
    return None


def draw_grid(rng: random.Random, colours: list[int], height: int, width: int) -> Grid:
    """A random grid of the given colours, other colours and background; as many of the given ones as fit."""
    others = rng.sample(range(1, COLOURS), rng.randint(2, 5))
    empty = rng.uniform(0.1, 0.5)
    cells = [0 if rng.random() < empty else rng.choice(others) for _ in range(height * width)]
    for i, colour in zip(rng.sample(range(len(cells)), min(len(cells), len(colours))), colours):
        cells[i] = colour
    return tuple(tuple(cells[i * width : (i + 1) * width]) for i in range(height))


# Equal functions --------------------------------------------------------------------------------------------------------


@cache
def _probes(height: int, width: int, down: int = 0, right: int = 0) -> tuple[Grid, ...]:
    """Shifted grids whose images identify a function; fewer of them on larger grids."""
    rng = random.Random("probes")
    count = max(6, _PROBED_CELLS // (height * width))
    grids = [draw_grid(rng, rng.sample((1, 2, 3, 4), 3), height, width) for _ in range(count)]
    return tuple(shift(grid, down, right) for grid in grids)


def _is_new(rules: Composition, split: str, height: int, width: int) -> bool:
    """Whether the composition differs from all functions that the split must not have, also after shifting all grids."""
    taken = _taken(split, height, width)
    return all(
        tuple(shift(compose(rules, grid), -down, -right) for grid in _probes(height, width, down, right)) not in taken
        for down, right in _MOVES
    )


def _canonical(rules: Composition) -> Composition:
    """The rules with canonical colours: compositions that differ in colours only count as the same function."""
    canonical: dict[int, int] = {}
    return tuple(rule.with_colours(canonical.setdefault(c, len(canonical) + 1) for c in rule.colours) for rule in rules)


@cache
def _taken(split: str, height: int, width: int) -> frozenset[Fingerprint]:
    """The images of the probes under the functions that a split must not have: single rules, and those of other splits.

    With all orders of colours: ``swap_colours(1, 2), recolour(2, 3)`` and ``recolour(1, 3), recolour(2, 1)`` are the same
    function.
    """
    probes = _probes(height, width)
    images = {rule: tuple(map(rule, probes)) for kind in KINDS for rule in all_rules(kind, (1, 2, 3, 4))}
    taken = set(images.values())
    of_kind = {kind: [rule for rule in images if rule.kind == kind] for kind in KINDS}
    for other, pairs in splits().items():
        if other != split:
            for first, second in map(_both, pairs):
                for a, b in product(of_kind[first], of_kind[second]):
                    taken |= {tuple(map(b, images[a])), tuple(map(a, images[b]))}
    return frozenset(taken)
