"""ARC tasks in a terminal and as images show the cells of the grids."""

from __future__ import annotations

import json
import random
import re
import sys
from itertools import combinations

import numpy as np
import pytest

from seal_env.domains.render_arc import render_arc
from seal_env.plots import arc_image, plot_accuracy_matrix, plot_arc_task
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grids import Grid, as_grid
from seal_env.tasks.arc.mini import MiniArc
from seal_env.tasks.arc.palette import PALETTE, dark, panel_rows, red_green_blue
from tests.shared import DATA

ARC = DATA / "arc"
HEADING = re.compile(r"input|output|attempt \d (?:✓ right|✗ wrong)|truth")
CODE = re.compile(r"\x1b\[([\d;]*)m")

needs_arc = pytest.mark.skipif(not ARC.is_dir(), reason=f"ARC's tasks are not at {ARC}")


def drawn(height: int, width: int, seed: int = 0) -> Grid:
    """A grid with all colours, if it has enough cells."""
    rng = random.Random(seed)
    cells = [*range(10), *rng.choices(range(10), k=height * width)][: height * width]
    rng.shuffle(cells)
    return tuple(tuple(cells[i * width : (i + 1) * width]) for i in range(height))


def mixed() -> tuple[ArcTask, list[list[Grid]]]:
    """Grids of all sizes, and tests with two, one and no attempts."""
    shapes = [
        ((30, 30), (3, 3)),
        ((1, 1), (30, 2)),
        ((2, 30), (1, 30)),
        ((5, 4), (10, 10)),
        ((3, 3), (30, 30)),
        ((7, 1), (1, 1)),
    ]
    pairs = [Pair(drawn(*first, seed=i), drawn(*second, seed=i + 50)) for i, (first, second) in enumerate(shapes)]
    task = ArcTask.of("mixed", pairs[:3], pairs[3:])
    return task, [[drawn(2, 9), task.tests[0].output], [drawn(30, 30)], []]


def small() -> tuple[ArcTask, list[list[Grid]]]:
    task = MiniArc().task("test", 3)
    return task, [[task.tests[0].input, task.tests[0].output]]


def arc(name: str) -> tuple[ArcTask, list[list[Grid]]]:
    """A published task of ARC."""
    challenge = json.loads((ARC / "arc-agi_evaluation_challenges.json").read_text())[name]
    truths = json.loads((ARC / "arc-agi_evaluation_solutions.json").read_text())[name]
    demonstrations = [Pair(as_grid(pair["input"]), as_grid(pair["output"])) for pair in challenge["train"]]
    tests = [Pair(as_grid(test["input"]), as_grid(truth)) for test, truth in zip(challenge["test"], truths)]
    return ArcTask.of(name, demonstrations, tests), [[test.output, test.input] for test in tests]


TASKS = [
    pytest.param(small, id="mini"),
    pytest.param(mixed, id="mixed"),
    *(pytest.param(lambda name=name: arc(name), id=name, marks=needs_arc) for name in ("16b78196", "0a1d4ef5", "12997ef3")),
]


def read_back(text: str) -> list[tuple[str, list[tuple[str, Grid]]]]:
    """Parse names, headings and grids of a rendering without colours."""
    _, *blocks = text.split("\n\n")
    drawing = []
    for name, headings, *lines in (block.split("\n") for block in blocks):
        starts = [match.start() for match in HEADING.finditer(headings)]
        grids = []
        for start, end in zip(starts, [*starts[1:], None]):
            rows = [tuple(map(int, line[start:end].split())) for line in lines]
            grids.append((HEADING.match(headings, start).group(), as_grid([row for row in rows if row])))
        drawing.append((name, grids))
    return drawing


def expected(task: ArcTask, attempts: list[list[Grid]] | None) -> list[tuple[str, list[tuple[str, Grid]]]]:
    rows = [
        (f"demonstration {i}", [("input", pair.input), ("output", pair.output)])
        for i, pair in enumerate(task.demonstrations, 1)
    ]
    for i, test in enumerate(task.tests):
        marked = [
            (f"attempt {n} {'✓ right' if grid == test.output else '✗ wrong'}", grid)
            for n, grid in enumerate(attempts[i] if attempts else [], 1)
        ]
        rows.append((f"test {i + 1}", [("input", test.input), *marked, ("truth", test.output)]))
    return rows


@pytest.mark.parametrize("make", TASKS)
def test_plain_text_holds_every_grid(make):
    task, attempts = make()
    for given in (attempts, None):
        text = render_arc(task, given, colour=False)
        assert read_back(text) == expected(task, given)
        assert text.startswith(task.title + "\n") and "\x1b" not in text
        assert all(line == line.rstrip() for line in text.split("\n"))


@pytest.mark.parametrize("make", TASKS)
def test_colours_in_a_terminal_are_those_of_the_digits(make):
    task, attempts = make()
    lines = render_arc(task, attempts).split("\n")
    assert [CODE.sub("", line).rstrip() for line in lines] == render_arc(task, attempts, colour=False).split("\n")
    seen = 0
    for line in lines[1:]:
        codes = CODE.findall(line)
        assert not codes or codes[-1] == "0"
        inside = None
        for i, part in enumerate(CODE.split(line)):
            if i % 2:
                inside = [int(number) for number in part.split(";")] if part.startswith("38;2;") else None
            elif inside:
                (colour,) = {int(digit) for digit in part.split()}
                assert part == f"{colour} " * (len(part) // 2)
                assert tuple(inside[7:]) == red_green_blue(colour) and inside[2:5] == [255 * dark(colour)] * 3
                seen += len(part) // 2
            else:
                assert not re.search(r"\d ?\d", part)
    assert seen == sum(len(grid) * len(grid[0]) for _, grids in expected(task, attempts) for _, grid in grids)


def test_digits_stand_out_on_every_colour():
    def luminance(colour: tuple[int, ...]) -> float:
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for colour, name in enumerate(PALETTE):
        ground = luminance(red_green_blue(colour))
        assert (1.05 / (ground + 0.05) if dark(colour) else (ground + 0.05) / 0.05) > 4.5, name


@pytest.mark.parametrize("make", TASKS)
def test_pixels_are_the_colours_of_the_cells(make):
    pytest.importorskip("matplotlib")
    task, attempts = make()
    for given in (attempts, None):
        figure, image = plot_arc_task(task, given), arc_image(task, given)
        rows = expected(task, given)
        panels = [panel for _, grids in rows for panel in grids]
        assert image.dtype == np.uint8 and image.shape[2] == 3 and len(figure.axes) == len(panels)
        assert {name for name, _ in rows} < {text.get_text() for text in figure.texts}
        for axes, (heading, grid) in zip(figure.axes, panels):
            assert axes.get_title(loc="left") == heading
            box = axes.get_window_extent()
            cell = box.height / len(grid)
            assert cell == pytest.approx(box.width / len(grid[0])) and round(cell, 6) in range(11, 41)
            for i, row in enumerate(grid):
                for j, colour in enumerate(row):
                    y, x = image.shape[0] - box.y1 + (i + 0.5) * cell, box.x0 + (j + 0.5) * cell
                    assert tuple(image[int(y), int(x)]) == red_green_blue(colour), (heading, i, j)


@pytest.mark.parametrize("make", TASKS)
def test_nothing_in_a_picture_is_cut_or_covered(make):
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    task, attempts = make()
    figure = plot_arc_task(task, attempts)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [*figure.texts, *(axes._left_title for axes in figure.axes)]
    boxes = [thing.get_window_extent(canvas.get_renderer()) for thing in (*texts, *figure.axes)]
    assert not [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)]
    width, height = canvas.get_width_height()
    assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < width and box.y1 < height for box in boxes)


def test_right_and_wrong_attempts_differ_in_words_and_in_colour():
    pytest.importorskip("matplotlib")
    task, attempts = small()
    text = render_arc(task, attempts)
    assert "\x1b[31mattempt 1 ✗ wrong\x1b[0m" in text and "\x1b[32mattempt 2 ✓ right\x1b[0m" in text
    titles = {axes.get_title(loc="left"): axes._left_title.get_color() for axes in plot_arc_task(task, attempts).axes}
    assert len({titles["attempt 1 ✗ wrong"], titles["attempt 2 ✓ right"], titles["truth"]}) == 3


def test_no_control_characters_but_our_own():
    pytest.importorskip("matplotlib")
    pair = Pair(drawn(3, 3), drawn(2, 2))
    task = ArcTask.of("a\x1b[2J\x07\x9b\n$\\frac$ " + 300 * "x", [pair], [pair])
    plain = render_arc(task, [[pair.input]], colour=False)
    assert plain.replace("\n", "").isprintable()
    assert CODE.sub("", render_arc(task, [[pair.input]])).replace("\n", "").isprintable()
    assert plain.startswith("a�[2J�� $\\frac$ xxx") and len(plain.split("\n")[0]) == 80
    picture = arc_image(task)
    assert np.array_equal(picture, arc_image(task)) and (picture[:, -10:] == 255).all()


def test_what_cannot_be_drawn_is_named():
    task, attempts = small()
    for given, message in (
        ([], "each of 1 tests, got 0"),
        (attempts * 2, "each of 1 tests, got 2"),
        ([[((1, 2), (3,))]], "attempt 1 of test 1 must have rows of one length"),
        (attempts[0][:1], "attempt 1 of test 1 must have rows that are lists"),
        ([[task.tests[0].output, ()]], "attempt 2 of test 1 must be a list of rows"),
        ([[((10,),)]], "colours 0 to 9, got 10"),
    ):
        for draw in (render_arc, panel_rows, plot_arc_task, arc_image):
            with pytest.raises(ValueError, match=message):
                draw(task, given)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    task, attempts = small()
    assert render_arc(task, attempts)
    for draw in (plot_arc_task, arc_image, lambda *_: plot_accuracy_matrix([[1.0]], tmp_path / "matrix.png")):
        with pytest.raises(ImportError, match=r"pip install 'seal-env\[plots\]'"):
            draw(task, attempts)
