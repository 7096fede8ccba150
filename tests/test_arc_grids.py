"""Grids and augmentations: text is parsed back, errors name the mistake, and every augmentation has an inverse."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seal_env.tasks.arc.augment import (
    BASIC,
    CHAIN,
    GROUPS,
    IDENTITY,
    REPEAT,
    SIZE,
    Augmentation,
    Pair,
    augmentations,
    colour_permutation,
    random_colours,
    random_translation,
    translation,
)
from seal_env.tasks.arc.grids import Grid, GridText, as_grid, fits, grid_text, read_grid, size

STYLES: tuple[GridText, ...] = ("spaced", "labelled")
# Every augmentation without random choices.
FIXED = (IDENTITY, *(augmentation for group in GROUPS.values() for augmentation in group))


def random_grid(rng: random.Random, height: int, width: int) -> Grid:
    return tuple(tuple(rng.randrange(10) for _ in range(width)) for _ in range(height))


@st.composite
def grids(draw: st.DrawFn, most: int = 30) -> Grid:
    height, width = draw(st.integers(1, most)), draw(st.integers(1, most))
    cells = [byte % 10 for byte in draw(st.binary(min_size=height * width, max_size=height * width))]
    return tuple(tuple(cells[i * width : (i + 1) * width]) for i in range(height))


def drawn(seed: int) -> tuple[Augmentation, ...]:
    """Every fixed augmentation, and some random ones."""
    rng = random.Random(seed)
    pair = Pair(random_grid(rng, rng.randint(1, 30), rng.randint(1, 30)), random_grid(rng, 30, 30))
    colours = list(range(10))
    rng.shuffle(colours)
    anywhere = translation(rng.randint(-40, 40), rng.randint(-40, 40))
    return (*FIXED, anywhere, random_translation([pair], rng), random_colours(rng), colour_permutation(colours))


KINDS_DRAWN = len(drawn(0))


# Text ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_grids_of_every_size_come_back_from_their_text(style: GridText) -> None:
    rng = random.Random(0)
    cells = [rng.randrange(10) for _ in range(900)]
    for height in range(1, 31):
        for width in range(1, 31):
            grid = tuple(tuple(cells[i * width : (i + 1) * width]) for i in range(height))
            assert read_grid(grid_text(grid, style), style) == grid
            assert size(grid) == (height, width) and fits(grid)


@settings(deadline=None)
@given(
    grid=grids(),
    style=st.sampled_from(STYLES),
    after=st.sampled_from(["", "\n", "\n\n", "\n\nInput:\n1 2\n", "\nSo it is.", "\n-1"]),
)
def test_a_grid_comes_back_whatever_a_model_wrote_after_it(grid: Grid, style: GridText, after: str) -> None:
    text = grid_text(grid, style)
    assert len(text.splitlines()) == len(grid) and text == text.strip()
    assert read_grid(text + after, style) == grid
    assert read_grid(f"\n {text}\r\n", style) == grid


def test_the_text_is_the_documented_one() -> None:
    grid = ((3, 1, 4), (1, 5, 9))
    assert grid_text(grid) == "3 1 4\n1 5 9"
    assert grid_text(grid, "labelled") == "a314\nb159"
    thirty = grid_text(((7,),) * 30, "labelled").splitlines()
    assert [line[0] for line in thirty] == list(string.ascii_lowercase + "ABCD")


def is_row(line: str) -> bool:
    return line != "" and set(line) <= set("0123456789 ") and line == line.strip() and "  " not in line


def oracle(text: str, style: GridText) -> Grid | None:
    """An independent implementation of the docstring of ``read_grid``."""
    rows = []
    labels = iter(string.ascii_lowercase + "ABCD")
    for line in map(str.strip, text.strip().splitlines()):
        if style == "labelled":
            if line[:1] != next(labels, None):
                break
            line = line[1:]
        if not is_row(line):
            break
        rows.append(tuple(map(int, line.replace(" ", ""))))
    good = 0 < len(rows) <= 30 and len({len(row) for row in rows}) == 1 and len(rows[0]) <= 30
    return tuple(rows) if good else None


@settings(deadline=None, max_examples=300)
@given(
    text=st.one_of(
        st.text(st.characters()),  # surrogates too
        st.text("0123456789 \n"),
        st.text("01 \nabc\r\t²٣\u2028-"),
        st.lists(st.sampled_from(["1", "12", "1 2", "a1", "b1", "a1 2", "b2 1", "ca", "", "x", "a 1"]), max_size=40).map(
            "\n".join
        ),
        st.integers(1, 40).map(lambda n: "\n".join(f"{label}5" for label in (string.ascii_letters * 2)[:n])),
    ),
    style=st.sampled_from(STYLES),
)
@example(text="\ud800", style="spaced")
@example(text="1\n" * 31, style="spaced")
@example(text="1" * 31, style="spaced")
@example(text="a", style="labelled")
def test_any_text_gives_a_grid_or_none_and_never_an_error(text: str, style: GridText) -> None:
    grid = read_grid(text, style)
    assert grid == oracle(text, style)
    assert grid is None or as_grid(grid) == grid


@pytest.mark.parametrize(
    "text",
    ["", " \n", "one", "1 2\n3", "1\n2 3", "1  2", "1,2", "٣ ٤", "²", "1.0", "-1 2", "[[1, 2]]", "1\n" * 31, "1 " * 31],
)
def test_what_is_no_grid_is_none(text: str) -> None:
    assert read_grid(text) is None


@pytest.mark.parametrize("text", ["1 2", "b12", "a12\na34\nb5", "a12\nb3", "12", "A1", "a" + "1" * 31])
def test_labels_that_are_missing_or_out_of_order_end_a_grid(text: str) -> None:
    assert read_grid(text, "labelled") == (((1, 2),) if text.startswith("a12\na") else None)


@pytest.mark.parametrize("style", STYLES)
def test_huge_text_is_read_in_no_time(style: GridText) -> None:
    start = time.process_time()
    for text in (
        "1 " * 300_000,
        "1 2\n" * 100_000,
        " " * 1_000_000 + "x",
        "a" * 1_000_000,
        "\n".join("1" * n for n in range(1, 500)),
    ):
        assert read_grid(text, style) is None
    assert time.process_time() - start < 5


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="style must be one of spaced, labelled, got 'bare'"):
        grid_text(((1,),), "bare")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="style must be one of spaced, labelled, got 'bare'"):
        read_grid("1", "bare")  # type: ignore[arg-type]


# Valid grids --------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(grid=grids())
def test_lists_of_lists_are_grids(grid: Grid) -> None:
    converted = as_grid([list(row) for row in grid])
    assert converted == grid == as_grid(grid)
    assert type(converted) is tuple and {type(row) for row in converted} == {tuple}
    assert hash(converted) == hash(grid)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([[True]], "hold colours 0 to 9, got True"),
        ([[1, 2.0]], r"hold colours 0 to 9, got 2\.0"),
        ([[0, -1]], "hold colours 0 to 9, got -1"),
        ([[10]], "hold colours 0 to 9, got 10"),
        ([["1"]], "hold colours 0 to 9, got '1'"),
        ([[None]], "hold colours 0 to 9, got None"),
        ([[[1]]], r"hold colours 0 to 9, got \[1\]"),
        ([[np.int64(3)]], r"hold colours 0 to 9, got np\.int64\(3\)|got 3"),
        ([[1]] * 31, "at most 30 x 30, got 31 x 1"),
        ([[1] * 31], "at most 30 x 30, got 1 x 31"),
        ([[1, 2], [3]], "rows of one length, got lengths 1, 2"),
        ([], r"a list of rows, got \[\]"),
        ([[]], r"rows that are lists of colours, got \[\[\]\]"),
        ([[1], []], r"rows that are lists of colours, got \[\[1\], \[\]\]"),
        (["12", "34"], "rows that are lists of colours, got"),
        ("12", "a list of rows, got '12'"),
        (None, "a list of rows, got None"),
        (7, "a list of rows, got 7"),
        ({0: [1]}, "a list of rows, got"),
        ([1, 2], "rows that are lists of colours, got"),
        (np.zeros((2, 2), dtype=int), "a list of rows, got array"),
        ([np.zeros(2, dtype=int)], "rows that are lists of colours, got"),
        (([1] for _ in range(2)), "a list of rows, got"),
        ([b"\x01\x02"], "rows that are lists of colours, got"),
    ],
)
def test_what_is_no_grid_is_refused_with_what_is_wrong(rows: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"^test 3's input must .*{named}"):
        as_grid(rows, "test 3's input")


def test_an_error_is_short_however_large_the_grid() -> None:
    with pytest.raises(ValueError) as caught:
        as_grid([list(range(10_000)), "x" * 10_000])
    assert len(str(caught.value)) < 200


# Augmentations ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(grid=grids(), seed=st.integers(0, 10**6))
def test_every_augmentation_has_an_inverse_that_restores_the_grid(grid: Grid, seed: int) -> None:
    for augmentation in drawn(seed):
        changed = augmentation.apply(grid)
        assert augmentation.invert(changed) == grid, augmentation.name
        assert {type(row) for row in changed} == {tuple} and type(changed) is tuple, augmentation.name
        assert len({len(row) for row in changed}) == 1, augmentation.name


@settings(deadline=None, max_examples=150)
@given(
    grid=grids(),
    seed=st.integers(0, 10**6),
    first=st.integers(0, KINDS_DRAWN - 1),
    second=st.integers(0, KINDS_DRAWN - 1),
    third=st.integers(0, KINDS_DRAWN - 1),
)
def test_one_augmentation_after_another_has_an_inverse_too(grid: Grid, seed: int, first: int, second: int, third: int) -> None:
    every = drawn(seed)
    both = every[first].then(every[second])
    assert both.apply(grid) == every[second].apply(every[first].apply(grid))
    assert both.invert(both.apply(grid)) == grid, both.name
    assert every[first].name in both.name and every[second].name in both.name
    if max(size(grid)) <= 15:
        three = both.then(every[third])
        assert three.invert(three.apply(grid)) == grid, three.name


def test_every_two_augmentations_have_an_inverse() -> None:
    rng = random.Random(1)
    for grid in (random_grid(rng, *shape) for shape in ((1, 1), (1, 4), (2, 3), (5, 5), (7, 2))):
        for first in drawn(2):
            for second in drawn(3):
                both = first.then(second)
                assert both.invert(both.apply(grid)) == grid, both.name


def doubled(grid: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(grid, 2, 0), 2, 1)


IN_NUMPY: dict[str, Sequence[Callable[[np.ndarray], np.ndarray]]] = {  # in the order of the groups
    "basic": (
        lambda g: np.rot90(g, 1),
        lambda g: np.rot90(g, 2),
        lambda g: np.rot90(g, 3),
        np.flipud,
        np.fliplr,
        lambda g: np.concatenate((g[::-1], g), 0),
        lambda g: np.concatenate((g, g[::-1]), 0),
        lambda g: np.concatenate((g[:, ::-1], g), 1),
        lambda g: np.concatenate((g, g[:, ::-1]), 1),
        np.transpose,
    ),
    "size": (doubled, lambda g: np.repeat(g, 2, 0), lambda g: np.repeat(g, 2, 1)),
    "chain": (
        lambda g: doubled(np.rot90(g, 1)),
        lambda g: doubled(np.rot90(g, 3)),
        lambda g: doubled(np.rot90(g, 2)),
        lambda g: doubled(np.flipud(g)),
        lambda g: doubled(np.fliplr(g)),
        lambda g: doubled(g.T),
    ),
    "repeat": (lambda g: np.tile(g, (2, 1)), lambda g: np.tile(g, (1, 2)), lambda g: np.tile(g, (2, 2))),
}


@settings(deadline=None, max_examples=60)
@given(grid=grids())
def test_every_augmentation_is_what_numpy_makes(grid: Grid) -> None:
    array = np.array(grid)
    for group, oracles in IN_NUMPY.items():
        assert len(oracles) == len(GROUPS[group])
        for augmentation, in_numpy in zip(GROUPS[group], oracles):
            assert augmentation.apply(grid) == as_tuple(in_numpy(array)), augmentation.name


@settings(deadline=None)
@given(grid=grids(), down=st.integers(-40, 40), right=st.integers(-40, 40), new=st.permutations(range(10)))
def test_translations_and_colour_permutations_are_what_numpy_makes(grid: Grid, down: int, right: int, new: list[int]) -> None:
    array = np.array(grid)
    assert translation(down, right).apply(grid) == as_tuple(np.roll(array, (down, right), (0, 1)))
    assert colour_permutation(new).apply(grid) == as_tuple(np.array(new)[array])


def as_tuple(array: np.ndarray) -> Grid:
    return tuple(map(tuple, array.tolist()))


def test_the_groups_are_as_large_as_seals() -> None:
    pairs, rng = [Pair(((1, 2), (3, 4)), ((5, 6), (7, 8)))], random.Random(0)
    sizes = {group: len(augmentations(group, pairs, rng)) for group in GROUPS}
    assert sizes == {"basic": 11, "size": 3, "chain": 6, "repeat": 3}
    assert (len(BASIC), len(SIZE), len(CHAIN), len(REPEAT)) == (10, 3, 6, 3)


def test_no_two_augmentations_have_one_name_or_do_the_same() -> None:
    grid = as_grid([[1, 2, 3], [4, 5, 6]])
    assert len({augmentation.name for augmentation in FIXED}) == len(FIXED)
    assert len({augmentation.apply(grid) for augmentation in FIXED}) == len(FIXED)


def test_a_translation_is_drawn_for_the_smallest_grid() -> None:
    def moves(*pairs: Pair) -> set[tuple[int, int]]:
        offsets = set()
        for seed in range(300):
            rng = random.Random(seed)
            grid = tuple(tuple(10 * i + j for j in range(6)) for i in range(6))  # every cell another number
            corner = random_translation(pairs, rng).invert(grid)[0][0]
            offsets.add((corner // 10, corner % 10))
        return offsets

    big, low, narrow = (random_grid(random.Random(0), *shape) for shape in ((6, 6), (2, 6), (6, 3)))
    assert moves(Pair(big, big)) == {(i, j) for i in range(4) for j in range(4)}
    assert moves(Pair(big, low), Pair(narrow, big)) == {(i, j) for i in range(2) for j in range(3)}


def test_a_drawn_translation_is_the_same_for_all_pairs_and_depends_on_the_seed_alone() -> None:
    rng = random.Random(5)
    pairs = [Pair(random_grid(rng, 5, 5), random_grid(rng, 5, 5)) for _ in range(3)]
    first, second = (augmentations("basic", pairs, random.Random(7))[-1] for _ in range(2))
    assert first.name == second.name and first.pairs(pairs) == second.pairs(pairs)
    assert first.pairs(pairs) == tuple(Pair(first.apply(pair.input), first.apply(pair.output)) for pair in pairs)


@given(seed=st.integers(0, 10**6))
def test_drawn_colours_leave_the_background(seed: int) -> None:
    (row,) = random_colours(random.Random(seed)).apply((tuple(range(10)),))
    assert row[0] == 0 and sorted(row) == list(range(10))
