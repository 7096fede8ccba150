"""mini-arc: ARC-like tasks on small grids, made by the thousand, each by two rules that are applied one after the other.

mini = MiniArc(MiniArcConfig(seed=0))
task = mini.task("test", 0)          # the same whenever it is asked for
task.demonstrations, task.tests

The bundled student was trained on single rules of most kinds (``KNOWN``), and on no composition at all. A split is a set of
*pairs of kinds*, so that what a policy meets in ``test`` is none of what it was trained on. Compositions that come to the same
function as a single rule, or as one of another split (``flip`` after ``rotate`` is a transposition), are in no split, even if
all grids were moved: a task is new as a function from grids to grids, not only in name.
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

# What is composed. The others are single rules alone: of their compositions an update of a student of this size reaches few
# (measured on training tasks: 7 % with swap_colours, 30 % with gravity and sort), or there is little left to see (keep).
COMPOSED = tuple(kind for kind in KINDS if kind not in ("gravity", "sort", "swap_colours", "keep"))
_SHARES = {"train": 0.45, "validation": 0.1, "test": 0.45}
_PROBED_CELLS = 216  # of the grids that tell functions apart: 24 of 3 x 3
_TRIES = 50
_MOVES = tuple((down, right) for down in range(3) for right in range(3))  # all that there are on 3 x 3; (0, 0): as it is

Fingerprint = tuple[Grid, ...]
Kinds = frozenset[str]


@dataclass(frozen=True)
class MiniArcConfig:
    """What tasks are like.

    Attributes:
        seed: another seed, other tasks; the splits stay.
        height: rows of the grids, 3 to 10: on smaller ones, functions of several splits are the same.
        width: columns.
        demonstrations: pairs that show the rule.
        tests: grids to solve.
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
        shown = self.config.demonstrations
        return ArcTask.of(f"mini-arc-{self.config.seed}-{split}-{index}", pairs[:shown], pairs[shown:])

    def rules(self, split: str, index: int) -> Composition:
        """What task ``index`` of a split composes."""
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
    """The pairs of kinds of each split; a pair has no order."""
    pairs = sorted({frozenset(both) for both in combinations_with_replacement(COMPOSED, 2)}, key=sorted)
    random.Random("mini-arc").shuffle(pairs)
    found, first = {}, 0.0
    for name, share in _SHARES.items():
        found[name] = tuple(pairs[round(first * len(pairs)) : round((first + share) * len(pairs))])
        first += share
    return found


def draw_composition(rng: random.Random, split: str, height: int, width: int) -> Composition:
    """Two rules of a pair of kinds of this split, that come to a new function on grids of this size."""
    while True:
        order = list(_both(rng.choice(splits()[split])))
        rng.shuffle(order)
        rules = tuple(draw_rule(rng, kind) for kind in order)
        if _is_new(_standing(rules), split, height, width):
            return rules


def _both(kinds: Kinds) -> tuple[str, str]:
    """The kinds of a pair, which may be one kind twice."""
    one, other = (sorted(kinds) * 2)[:2]
    return one, other


def draw_pairs(
    rng: random.Random, rules: Composition, count: int, height: int, width: int, shown: int | None = None
) -> list[Pair] | None:
    """Different grids and what the rules make of them; None where the rules hardly show.

    Each input is changed, and none of the rules can be left out to explain the first ``shown`` pairs, or all where it is None.
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
            return None if any(all(compose(r, one) == other for one, other in pairs[:shown]) for r in simpler) else pairs
    return None


def draw_grid(rng: random.Random, colours: list[int], height: int, width: int) -> Grid:
    """A grid that holds the given colours, where there is room, among others and background."""
    others = rng.sample(range(1, COLOURS), rng.randint(2, 5))
    empty = rng.uniform(0.1, 0.5)
    cells = [0 if rng.random() < empty else rng.choice(others) for _ in range(height * width)]
    for place, colour in zip(rng.sample(range(len(cells)), min(len(cells), len(colours))), colours):
        cells[place] = colour
    return tuple(tuple(cells[i * width : (i + 1) * width]) for i in range(height))


# What is the same function ----------------------------------------------------------------------------------------------


@cache
def _probes(height: int, width: int, down: int = 0, right: int = 0) -> tuple[Grid, ...]:
    """Grids that tell functions apart, moved; the larger, the fewer are needed."""
    rng = random.Random("probes")
    count = max(6, _PROBED_CELLS // (height * width))
    grids = [draw_grid(rng, rng.sample((1, 2, 3, 4), 3), height, width) for _ in range(count)]
    return tuple(shift(grid, down, right) for grid in grids)


def _is_new(rules: Composition, split: str, height: int, width: int) -> bool:
    """Whether the function is none that a split must not have, nor becomes one when all grids of a task are moved."""
    taken = _taken(split, height, width)
    return all(
        tuple(shift(compose(rules, grid), -down, -right) for grid in _probes(height, width, down, right)) not in taken
        for down, right in _MOVES
    )


def _standing(rules: Composition) -> Composition:
    """The rules with their colours replaced by the first ones: recolouring is one function, whatever the colours."""
    stand_in: dict[int, int] = {}
    return tuple(rule.with_colours(stand_in.setdefault(c, len(stand_in) + 1) for c in rule.colours) for rule in rules)


@cache
def _taken(split: str, height: int, width: int) -> frozenset[Fingerprint]:
    """What functions make of the probes that a composition of this split must not be: single rules, and those of other splits.

    With all colours of the palette in all places: the same function may name its colours in another order, as
    ``swap_colours(1, 2), recolour(2, 3)`` and ``recolour(1, 3), recolour(2, 1)`` do.
    """
    probes = _probes(height, width)
    made = {rule: tuple(map(rule, probes)) for kind in KINDS for rule in all_rules(kind, (1, 2, 3, 4))}
    taken = set(made.values())
    of_kind = {kind: [rule for rule in made if rule.kind == kind] for kind in KINDS}
    for other, pairs in splits().items():
        if other != split:
            for one, two in map(_both, pairs):
                for a, b in product(of_kind[one], of_kind[two]):
                    taken |= {tuple(map(b, made[a])), tuple(map(a, made[b]))}
    return frozenset(taken)
