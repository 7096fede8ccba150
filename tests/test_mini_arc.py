"""mini-arc: tasks are deterministic, rules equal their numpy versions, and splits share no function."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest

from benchmarks.measurements.shapes import byte_tokenizer
from seal_env.chat import Chat
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grid_prompts import END, ArcPrompts, pairs_text
from seal_env.tasks.arc.grids import Grid, GridText, as_grid, read_grid, size
from seal_env.tasks.arc.mini import COMPOSED, SPLITS, MiniArc, MiniArcConfig, draw_pairs, splits
from seal_env.tasks.arc.rules import KINDS, Composition, Rule, all_rules, compose, draw_rule


def array(*grids: Grid) -> np.ndarray:
    """(grids, rows, columns)"""
    return np.array(grids, dtype=np.int8)


# The rules in numpy: arrays (grids, rows, columns) ------------------------------------------------------------------------


def gravity(g: np.ndarray, side: int) -> np.ndarray:
    """Cells fall to the left (0), up (1), right (2) or down (3)."""
    last = g == 0 if side in (0, 1) else g != 0
    axis = 2 if side in (0, 2) else 1
    return np.take_along_axis(g, np.argsort(last, axis=axis, kind="stable"), axis)


def ordered(g: np.ndarray, turns: int) -> np.ndarray:
    """Rows downwards (0) or upwards (2), columns to the left (1) or to the right (3) in the order of their coloured cells."""
    axis = 1 if turns in (0, 2) else 2
    counts = (g > 0).sum(axis=3 - axis)
    order = np.argsort(counts if turns in (0, 3) else -counts, axis=1, kind="stable")
    return np.take_along_axis(g, np.expand_dims(order, 3 - axis), axis)


def mirror(g: np.ndarray, half: int) -> np.ndarray:
    """The left (0), upper (1), right (2) or lower (3) half reflected onto the other."""
    axis = 2 if half in (0, 2) else 1
    n = g.shape[axis]
    there = [max(i, n - 1 - i) if half in (2, 3) else min(i, n - 1 - i) for i in range(n)]
    return np.take(g, there, axis)


def spread(g: np.ndarray, side: int) -> np.ndarray:
    """Repeats the top row (0), right column (1), bottom row (2) or left column (3)."""
    edge = (g[:, :1, :], g[:, :, -1:], g[:, -1:, :], g[:, :, :1])[side]
    return np.broadcast_to(edge, g.shape)


def swap_lines(g: np.ndarray, axis: int, first: int) -> np.ndarray:
    n = g.shape[1 + axis]
    order = np.arange(n)
    order[first % n], order[(first + 1) % n] = (first + 1) % n, first % n
    return np.take(g, order, 1 + axis)


def swap_colours(g: np.ndarray, first: int, second: int) -> np.ndarray:
    return np.where(g == first, second, np.where(g == second, first, g))


def border(g: np.ndarray, colour: int) -> np.ndarray:
    inner = np.zeros(g.shape[1:], dtype=bool)
    inner[1:-1, 1:-1] = True
    return np.where(inner, g, colour)


def line(g: np.ndarray, axis: int, index: int, colour: int) -> np.ndarray:
    painted = g.copy()
    np.moveaxis(painted, 1 + axis, 0)[index % g.shape[1 + axis]] = colour
    return painted


def diagonal(g: np.ndarray, anti: int, colour: int) -> np.ndarray:
    there = np.eye(*g.shape[1:], dtype=bool)
    return np.where(np.flip(there, 1) if anti else there, colour, g)


def corners(g: np.ndarray, colour: int) -> np.ndarray:
    painted = g.copy()
    for row in (0, -1):
        painted[:, row, 0] = painted[:, row, -1] = colour
    return painted


def cross(g: np.ndarray, colour: int) -> np.ndarray:
    painted = g.copy()
    painted[:, g.shape[1] // 2, :] = painted[:, :, g.shape[2] // 2] = colour
    return painted


IN_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "rotate": lambda g, times: np.rot90(g, times, (1, 2)),
    "flip": lambda g, axis: np.flip(g, 1 + axis),
    "transpose": lambda g, anti: np.flip(np.swapaxes(g, 1, 2), (1, 2)) if anti else np.swapaxes(g, 1, 2),
    "shift": lambda g, down, right: np.roll(g, (down, right), (1, 2)),
    "swap_lines": swap_lines,
    "gravity": gravity,
    "sort": ordered,
    "mirror": mirror,
    "spread": spread,
    "swap_colours": swap_colours,
    "recolour": lambda g, old, new: np.where(g == old, new, g),
    "fill": lambda g, colour: np.where(g == 0, colour, g),
    "keep": lambda g, colour: g * (g == colour),
    "border": border,
    "line": line,
    "diagonal": diagonal,
    "corners": corners,
    "cross": cross,
    "checker": lambda g, colour: np.where(np.indices(g.shape[1:]).sum(0) % 2 == 0, colour, g),
}


def applied(rules: Composition, g: np.ndarray) -> np.ndarray:
    for rule in rules:
        g = IN_NUMPY[rule.kind](g, *rule.parameters).astype(np.int8)
    return g


def test_there_are_many_kinds_of_rule() -> None:
    assert len(KINDS) >= 12
    assert set(KINDS) == set(IN_NUMPY)
    assert len({str(rule) for kind in KINDS for rule in all_rules(kind)}) == sum(len(all_rules(kind)) for kind in KINDS) > 200


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_is_what_numpy_makes(kind: str) -> None:
    for height, width in ((1, 1), (2, 2), (3, 3), (2, 5), (4, 3), (10, 10)):
        grids = probes(6, height, width)
        for rule in all_rules(kind):
            outputs = array(*(rule(tuple(map(tuple, grid.tolist()))) for grid in grids))
            assert np.array_equal(outputs, applied((rule,), grids)), rule


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_rule_is_one_of_its_kind_with_colours_of_the_palette(kind: str) -> None:
    rng = random.Random(0)
    known = set(all_rules(kind, (2, 5, 9)))
    assert {draw_rule(rng, kind, (2, 5, 9)) for _ in range(500)} == known
    assert len(known) == len(all_rules(kind, (2, 5, 9)))


def test_rules_are_applied_in_order() -> None:
    rules = (Rule("recolour", (1, 2)), Rule("recolour", (2, 3)), Rule("shift", (0, 1)))
    assert compose(rules, ((1, 0),)) == ((0, 3),)
    assert compose(rules[::-1], ((1, 0),)) == ((0, 2),)
    assert str(rules[2]) == "shift(0, 1)"


# Splits -------------------------------------------------------------------------------------------------------------------


def test_splits_part_all_pairs_of_kinds() -> None:
    pairs = splits()
    assert set(pairs) == set(SPLITS)
    every = [pair for name in SPLITS for pair in pairs[name]]
    assert len(every) == len(set(every))
    assert set(every) == {frozenset(pair) for pair in combinations_with_replacement(COMPOSED, 2)}
    assert len(COMPOSED) >= 12
    assert all(pairs.values())


def test_the_splits_are_known() -> None:
    """A change here changes results on the splits."""
    pairs = {name: "+".join(sorted(splits()[name][0])) for name in SPLITS}
    assert pairs == {"train": "line+recolour", "validation": "border+checker", "test": "cross+mirror"}
    assert [len(splits()[name]) for name in SPLITS] == [54, 12, 54]


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_composes_its_own_pairs_of_kinds(split: str) -> None:
    composed = [frozenset(rule.kind for rule in rules_of(split, i)) for i in range(300)]
    assert set(composed) <= set(splits()[split])
    assert len(set(composed)) >= len(splits()[split]) / 3


def smallest() -> int:
    """The smallest grid size that a config accepts."""
    for n in range(1, 11):
        try:
            return MiniArcConfig(height=n, width=n).height
        except ValueError:
            continue
    raise AssertionError("no config is taken")


SHAPES = sorted({(smallest(), smallest()), (3, 3), (3, 5), (10, 10)})


@cache
def rules_of(split: str, index: int, height: int = 3, width: int = 3) -> Composition:
    return MiniArc(MiniArcConfig(height=height, width=width)).rules(split, index)


def probes(count: int, height: int, width: int) -> np.ndarray:
    """Random grids with one to nine colours and much or little background."""
    rng = np.random.default_rng(height * 100 + width)
    grids = np.zeros((count, height, width), dtype=np.int8)
    for grid in grids:
        palette = rng.permutation(9)[: rng.integers(1, 10)] + 1
        grid[:] = np.where(rng.random(grid.shape) < rng.uniform(0, 0.6), 0, rng.choice(palette, grid.shape))
    return grids


PALETTE = (1, 2, 3, 4)


def relabelled(rules: Composition) -> Composition:
    """With the first colours for its own, in the order in which they come.

    Two rules hold at most four colours. A function that does not depend on a colour treats it as any other that it does not
    depend on, so whatever composition is the same function is so with colours of ``PALETTE``, too.
    """
    new: dict[int, int] = {}
    plain = []
    for rule in rules:
        fixed = len(rule.parameters) - KINDS[rule.kind].colours
        colours = (new.setdefault(colour, len(new) + 1) for colour in rule.parameters[fixed:])
        plain.append(Rule(rule.kind, (*rule.parameters[:fixed], *colours)))
    return tuple(plain)


def key(outputs: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return outputs.shape, outputs.tobytes()


@cache
def every_function(height: int, width: int) -> tuple[np.ndarray, dict[Any, str], dict[Any, dict[str, Composition]]]:
    """Inputs; the rules by their outputs on these; and the compositions by their outputs, one for each split."""
    inputs = probes(32, height, width)
    split_of = {pair: name for name, pairs in splits().items() for pair in pairs}
    every = [rule for kind in KINDS for rule in all_rules(kind, PALETTE)]
    singles = {key(inputs): "nothing"} | {key(applied((rule,), inputs)): str(rule) for rule in every}
    rules = [rule for rule in every if rule.kind in COMPOSED]
    compositions: dict[Any, dict[str, Composition]] = {}
    by_shape: dict[tuple[int, ...], list[Rule]] = {}  # first rules, by the shape of their outputs
    for rule in rules:
        by_shape.setdefault(applied((rule,), inputs).shape, []).append(rule)
    for firsts in by_shape.values():
        between = np.concatenate([applied((rule,), inputs) for rule in firsts])
        for second in rules:
            after = applied((second,), between)
            for first, outputs in zip(firsts, np.split(after, len(firsts))):
                split = split_of[frozenset((first.kind, second.kind))]
                compositions.setdefault(key(outputs), {}).setdefault(split, (first, second))
    return inputs, singles, compositions


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("split", SPLITS)
def test_no_task_is_a_single_rule_or_a_composition_of_another_split(split: str, height: int, width: int) -> None:
    inputs, singles, compositions = every_function(height, width)
    wrong = {}
    for i in range(1500 if (height, width) == (3, 3) else 300):
        rules = rules_of(split, i, height, width)
        signature = key(applied(relabelled(rules), inputs))
        assert split in compositions[signature], "the enumeration holds every composition"
        same = [singles[signature]] if signature in singles else []
        same += [f"{name}: {named(other)}" for name, other in compositions[signature].items() if name != split]
        if same:
            wrong[i] = f"{named(rules)} is {', '.join(same)}"
    assert not wrong, f"{len(wrong)} tasks"


def named(rules: Composition) -> str:
    return " ".join(map(str, rules))


# Tasks --------------------------------------------------------------------------------------------------------------------


CONFIGS = (
    MiniArcConfig(),
    MiniArcConfig(seed=7, height=smallest(), width=smallest(), demonstrations=10, tests=10),
    MiniArcConfig(height=10, width=10, demonstrations=10, tests=10),
    MiniArcConfig(height=smallest(), width=10, demonstrations=1),
    MiniArcConfig(height=10, width=smallest(), tests=3),
)
CONFIG_NAMES = [f"{c.height}x{c.width}, {c.demonstrations}+{c.tests}" for c in CONFIGS]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_NAMES)
def test_tasks_are_sound(config: MiniArcConfig, split: str) -> None:
    mini = MiniArc(config)
    for i in range(25):
        task, rules = mini.task(split, i), mini.rules(split, i)
        pairs = (*task.demonstrations, *task.tests)
        assert (len(task.demonstrations), len(task.tests)) == (config.demonstrations, config.tests)
        assert len({pair.input for pair in pairs}) == len(pairs), "a test is no demonstration, and no two are alike"
        turned = sum(rule.kind == "transpose" or (rule.kind == "rotate" and rule.parameters[0] != 2) for rule in rules) % 2
        for pair in pairs:
            assert as_grid(pair.input) == pair.input and as_grid(pair.output) == pair.output
            assert size(pair.input) == (config.height, config.width)
            assert size(pair.output) == ((config.width, config.height) if turned else (config.height, config.width))
            assert pair.output != pair.input, "the rules show"
            assert len({colour for row in pair.output for colour in row}) > 1
        assert np.array_equal(array(*(p.output for p in pairs)), applied(rules, array(*(p.input for p in pairs))))


def test_pairs_differ_on_the_smallest_grids_too() -> None:
    for seed in range(100):
        pairs = draw_pairs(random.Random(seed), (Rule("flip", (1,)),), 8, 1, 2)
        assert pairs is None or len({pair.input for pair in pairs}) == 8


def test_rules_that_hardly_show_give_no_pairs() -> None:
    there_and_back = (Rule("rotate", (1,)), Rule("rotate", (3,)))
    one_hides_the_other = (Rule("recolour", (1, 2)), Rule("keep", (3,)))
    for rules in (there_and_back, one_hides_the_other):
        assert all(draw_pairs(random.Random(seed), rules, 4, 3, 3) is None for seed in range(20)), named(rules)


@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrations_alone_show_both_rules(split: str) -> None:
    """Otherwise the second rule could not be inferred."""
    unclear = {}
    for i in range(300):
        task, rules = mini_task(split, i), rules_of(split, i)
        for fewer in (rules[:1], rules[1:]):
            if all(compose(fewer, grid_in) == grid_out for grid_in, grid_out in task.demonstrations):
                unclear[i] = f"{named(rules)} shows {fewer[0]} only"
    assert not unclear


@cache
def mini_task(split: str, index: int) -> ArcTask:
    return MiniArc().task(split, index)


def test_a_task_is_the_same_whenever_and_in_whatever_order_it_is_made() -> None:
    first, second = MiniArc(), MiniArc()
    for split in SPLITS:
        forwards = [first.task(split, i) for i in range(30)]
        rules = [second.rules(split, i) for i in range(30)]
        backwards = [second.task(split, i) for i in reversed(range(30))][::-1]
        assert forwards == backwards
        assert rules == [first.rules(split, i) for i in range(30)]


def test_other_seeds_splits_and_indices_give_other_tasks() -> None:
    every = [
        MiniArc(MiniArcConfig(seed=seed)).task(split, i).context for seed in (0, 1) for split in SPLITS for i in range(100)
    ]
    assert len(set(every)) == len(every)
    assert len({rules_of("test", i) for i in range(100)}) > 90


def test_splits_stay_where_the_seed_changes() -> None:
    for split in SPLITS:
        mini = MiniArc(MiniArcConfig(seed=11))
        assert {frozenset(rule.kind for rule in mini.rules(split, i)) for i in range(100)} <= set(splits()[split])


def test_ids_tell_tasks_and_questions_apart() -> None:
    tasks = [
        MiniArc(MiniArcConfig(seed=seed, tests=2)).task(split, i) for seed in (0, 1) for split in SPLITS for i in range(20)
    ]
    assert len({task.id for task in tasks}) == len(tasks)
    questions = [question.id for task in tasks for question in task.questions]
    assert len(set(questions)) == len(questions)


def test_a_thousand_tasks_are_made_in_a_few_seconds() -> None:
    start = time.process_time()
    contexts = {MiniArc(MiniArcConfig(seed=3)).task("train", i).context for i in range(1000)}
    assert len(contexts) == 1000
    assert time.process_time() - start < 5


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_NAMES)
def test_making_a_task_always_ends_quickly(config: MiniArcConfig, split: str) -> None:
    mini = MiniArc(config)
    mini.task(split, 0)  # the first one waits for the splits' functions
    longest = 0.0
    for i in range(100, 130):
        start = time.process_time()
        mini.task(split, i)
        longest = max(longest, time.process_time() - start)
    assert longest < 0.5


# As text ------------------------------------------------------------------------------------------------------------------


def test_context_and_questions_hold_the_grids() -> None:
    for i in range(20):
        task = MiniArc(MiniArcConfig(tests=2)).task("validation", i)
        pairs = []
        for block in task.context.split("\n\n"):
            given, expected = block.removeprefix("Input:\n").split("\nOutput:\n")
            pairs.append(Pair(grid(given), grid(expected)))
        assert tuple(pairs) == task.demonstrations
        assert [grid(question.question) for question in task.questions] == [test.input for test in task.tests]
        assert [grid(question.answers[0]) for question in task.questions] == [test.output for test in task.tests]
        assert all(read_grid(question.answers[0]) == test.output for question, test in zip(task.questions, task.tests))


def grid(text: str) -> Grid:
    return tuple(tuple(map(int, line.split(" "))) for line in text.split("\n"))


def chat() -> Chat:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ '<end>' if m['role'] == 'assistant' }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return Chat(tokenizer)


@pytest.mark.parametrize("style", ["spaced", "labelled"])
@pytest.mark.parametrize("chat", [None, chat()], ids=["text", "chat"])
def test_what_a_model_reads_and_then_writes_is_an_example(style: GridText, chat: Chat | None) -> None:
    prompts = ArcPrompts(style, chat)
    for i in range(20):
        task = mini_task("train", i)
        (test,) = task.tests
        read = prompts.prompt(task.demonstrations, test.input)
        prompt = read if isinstance(read, str) else byte_tokenizer().decode(read)
        assert isinstance(read, str) == (chat is None)
        text, begins = prompts.example(task.demonstrations, test)
        written = text[begins:]
        assert text[:begins] == prompt and written[0] not in " \n"
        assert prompts.read(written.removesuffix("<end>")) == test.output
        assert all(pairs_text([pair], prompts.style) in prompt for pair in task.demonstrations)
        if prompts.chat is None:
            assert text == pairs_text((*task.demonstrations, test), prompts.style), "one more demonstration"
            assert written.endswith(prompts.stop) and prompts.stop == (END,)


def test_the_text_of_a_pair_is_the_documented_one() -> None:
    pair = Pair(((0, 3), (0, 0)), ((3, 0), (0, 0)))
    assert pairs_text([pair]) == "Input:\n0 3\n0 0\nOutput:\n3 0\n0 0\n\n"
    assert pairs_text([pair], "labelled") == "Input:\na03\nb00\nOutput:\na30\nb00\n\n"
    assert ArcPrompts("labelled").prompt([], pair.input) == "Input:\na03\nb00\nOutput:\na"


# Errors -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"height": 1}, r"height must be an integer from \d to 10, got 1"),
        ({"height": 11}, r"height must be an integer from \d to 10, got 11"),
        ({"width": 0}, r"width must be an integer from \d to 10, got 0"),
        ({"width": 3.0}, r"width must be an integer from \d to 10, got 3\.0"),
        ({"width": "3"}, r"width must be an integer from \d to 10, got '3'"),
        ({"demonstrations": 0}, "demonstrations must be an integer from 1 to 10, got 0"),
        ({"demonstrations": True}, "demonstrations must be an integer from 1 to 10, got True"),
        ({"tests": 11}, "tests must be an integer from 1 to 10, got 11"),
        ({"tests": True}, "tests must be an integer from 1 to 10, got True"),
        ({"tests": None}, "tests must be an integer from 1 to 10, got None"),
        ({"seed": "x"}, "seed must be an integer, got 'x'"),
        ({"seed": 1.0}, r"seed must be an integer, got 1\.0"),
    ],
)
def test_a_bad_config_is_refused_with_the_value(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MiniArcConfig(**wrong)


def test_a_bad_split_or_index_is_refused_with_the_value() -> None:
    for ask in (MiniArc().task, MiniArc().rules):
        with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
            ask("dev", 0)
        with pytest.raises(ValueError, match="index must be an integer >= 0, got -1"):
            ask("train", -1)


def test_a_task_without_demonstrations_or_tests_is_refused() -> None:
    pairs = mini_task("train", 0).demonstrations
    with pytest.raises(ValueError, match="task 'x' has no demonstrations"):
        ArcTask.of("x", (), pairs)
    with pytest.raises(ValueError, match="task 'x' has no tests"):
        ArcTask.of("x", pairs, ())
