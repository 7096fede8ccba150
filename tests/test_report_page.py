"""The page of `seal-bench report` in a real browser: what is seen, sorted, hovered over and chosen, on desks and phones."""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.reports.page import page as page_of
from benchmarks.reports.run_records import read
from benchmarks.reports.summary import summarise
from tests.test_report import AGENTS, HOSTILE, POINTS, TASKS, Page, lines_of, write_benchmark

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the PATH")

QUIET = ("background-networking", "component-update", "sync")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", *(f"--disable-{name}" for name in QUIET)]
VIEWS = {"desk": (1280, 900, "light"), "phone": (375, 800, "dark")}
LEARNERS = AGENTS[:2]

READ = """() => ({
  passage: [...document.querySelectorAll("#reading summary, #reading details pre")].map((each) => each.textContent),
  cards: [...document.querySelectorAll(".card")].map((card) => [...card.children].map((each) => each.textContent)),
  answers: [...document.querySelectorAll("#answers tr")].map((row) =>
    [...row.cells].map((cell) => [cell.textContent, cell.className])),
})"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmark(tmp_path_factory.mktemp("page") / "benchmark")


@pytest.fixture(scope="module")
def html(folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(page_of(summarise(read([folder]))), encoding="utf-8", errors="replace")
    return path


@pytest.fixture(scope="module")
def curves(html: Path) -> dict[str, dict]:
    return {curve["label"]: curve for curve in Page(html.read_text()).json("curve-data")}


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield launched
        launched.close()


@pytest.fixture(scope="module", params=VIEWS)
def opened(browser, html, request) -> Iterator[SimpleNamespace]:
    width, height, scheme = VIEWS[request.param]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(60_000)  # the machine may be busy
    wrong: list[str] = []
    page.on(
        "console", lambda message: wrong.append(f"console: {message.text}") if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda sent: None if sent.url.startswith(("file:", "data:")) else wrong.append(sent.url))
    address = html.as_uri() + "#task=3&run=rest_em%2F1"
    page.goto(address)
    yield SimpleNamespace(page=page, wrong=wrong, phone=width < 800, address=address, arrived=page.evaluate(READ))
    page.close()


@pytest.fixture
def view(opened) -> Iterator[SimpleNamespace]:
    """A page that logs no error, opens no dialog and loads nothing from the network, whatever the test does."""
    yield opened
    assert opened.wrong == []
    assert opened.page.evaluate("[document.images.length, document.scripts.length]") == [0, 4]


def test_nothing_is_wider_than_the_window(view):
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert view.page.evaluate(width) == 0
    view.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert view.page.evaluate(width) == 0


SORTED = """(column) => [[...document.querySelectorAll("#figures thead th")].map((head) => head.ariaSort),
  [...document.querySelectorAll("#figures tbody tr")].map((row) => row.cells[column].dataset.value)]"""


def test_every_heading_sorts_both_ways_by_mouse_and_by_keyboard(view):
    heads = view.page.locator("#figures thead th")
    for i in range(heads.count()):
        head, seen = heads.nth(i), {}
        for press in (head.get_by_role("button").click, lambda: view.page.keyboard.press("Enter")):
            press()
            sorts, values = view.page.evaluate(SORTED, i)
            assert [n for n, way in enumerate(sorts) if way] == [i]
            known = [value if i == 0 else float(value) for value in values if value]
            assert known == sorted(known, reverse=sorts[i] == "descending") and not any(values[len(known) :])
            seen[sorts[i]] = len(values)
        assert seen == {"ascending": len(AGENTS), "descending": len(AGENTS)}
    heads.get_by_role("button").first.focus()
    for name in heads.all_inner_texts():
        assert view.page.evaluate("document.activeElement.textContent") == name
        view.page.keyboard.press("Tab")


def spread(measure: str, estimate: list[float]) -> str:
    value, low, high = (f"{math.floor(v + 0.5):,}" if measure == "length" else f"{100 * v:.1f}" for v in estimate)
    return f"{value} [{low}, {high}]"


POSITION = (
    """(chart, at) => [chart._fullLayout.xaxis, chart._fullLayout.yaxis].map((axis, i) => axis._offset + axis.l2p(at[i]))"""
)


def test_hovering_over_a_point_shows_its_figures(view, curves):
    for measure in ("score", "length"):
        chart = view.page.locator(f"[data-measure={measure}]")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        for label in LEARNERS:
            for point in curves[label]["points"]:
                y = point[measure][0] * (1 if measure == "length" else 100)
                left, top = chart.evaluate(POSITION, [point["edits"], y])
                view.page.mouse.move(box["x"] + left, box["y"] + top)
                spent = ", ".join(f"{math.floor(point[name] + 0.5):,} {name}" for name in ("edits", "tokens", "seconds"))
                text = f"{label}{spread(measure, point[measure])}{spent.removesuffix('econds')}3 seeds"
                playwright.expect(chart.locator(".hovertext")).to_have_text(text)


def traces(view) -> dict[str, list[dict]]:
    """What Plotly has drawn, by the measure of the chart."""
    read = "all => all.map(c => [c.dataset.measure ?? c.id, c.data.map(({text, marker, ...trace}) => trace)])"
    return dict(view.page.eval_on_selector_all(".chart", read))


def test_an_unchecked_agent_is_in_no_chart(view, curves):
    colours = {label: curve["colour"] for label, curve in curves.items()}
    for label in AGENTS:
        box = view.page.get_by_role("checkbox", name=label)
        for visible in (False, True):
            box.set_checked(visible)
            kept = {colour for name, colour in colours.items() if visible or name != label}
            for chart, drawn in traces(view).items():
                expected = kept - {colours["untrained"]} if chart == "training" else kept
                assert {trace["line"]["color"] for trace in drawn} == expected


def test_the_curves_are_drawn_against_the_chosen_axis(view, curves):
    for axis in ("tokens", "seconds", "edits"):
        view.page.locator(f"#across [value={axis}]").check()
        end = max(point[axis] for curve in curves.values() for point in curve["points"])
        for measure, lines in traces(view).items():
            if measure == "training":
                continue
            scale = 1 if measure == "length" else 100
            for label, curve in curves.items():
                points, drawn = (
                    curve["points"],
                    [trace for trace in lines if trace["line"]["color"] == curve["colour"]],
                )
                if label == "untrained":
                    assert [drawn[0]["x"][0], drawn[0]["x"][-1]] == [0, end]
                    assert set(drawn[0]["y"]) == {scale * points[-1][measure][0]}
                    continue
                low, high, line = drawn
                assert (high["fill"], line["mode"]) == ("tonexty", "lines+markers")
                for n, trace in enumerate((line, low, high)):
                    assert trace["x"] == [point[axis] for point in points]
                    assert trace["y"] == [scale * point[measure][n] for point in points]


def test_training_is_drawn_from_the_rounds(view, folder, curves):
    menu = view.page.locator("#metric")
    assert menu.locator("option").all_inner_texts() == ["loss", "reward"] and menu.input_value() == "reward"
    for metric in ("loss", "reward"):
        menu.select_option(metric)
        drawn = traces(view)["training"]
        for label in LEARNERS:
            runs = [lines_of(run / "rounds.jsonl") for run in sorted((folder / "runs" / label).iterdir())]
            *single, mean = (trace for trace in drawn if trace["line"]["color"] == curves[label]["colour"])
            assert [trace["y"] for trace in single] == [[line[metric] for line in run] for run in runs]
            assert all(trace["x"] == [line["edits"] for line in runs[0]] for trace in (*single, mean))
            assert mean["y"] == pytest.approx([statistics.fmean(line[metric] for line in at) for at in zip(*runs)])


def answer(text: str, right: bool) -> str:
    return f"{'✓ right' if right else '✗ wrong'}: {text or '(empty)'}"


def cell(question: dict, first: dict) -> tuple[str, str]:
    text, earlier = answer(question["answer"], question["correct"]), question["answer_before"]
    if earlier != first["answer_before"]:
        text = f"{text}before: {answer(earlier, question['correct_before'])}"
    return text, "right" if question["correct"] else "wrong"


def test_the_reader_shows_what_was_written_and_answered(view, folder):
    runs = [(label, seed) for label in AGENTS for seed in range(3)]
    for task, (label, seed) in [(i % TASKS, run) for i, run in enumerate(runs)] + [(task, runs[0]) for task in range(TASKS)]:
        view.page.locator("#task").select_option(index=task)
        view.page.locator("#run").select_option(f"{label}, seed {seed}")
        lines = [line for line in lines_of(folder / f"runs/{label}/seed-{seed}/evaluation.jsonl") if line["task"] == task]
        content = view.page.evaluate(READ)
        assert content["passage"] == [f"Passage: {HOSTILE} {task}", HOSTILE]
        assert len(lines) == (1 if label == "untrained" else len(POINTS))
        when = [f"after {line['edits']} edits" if line["edits"] else "not trained" for line in lines]
        for name, line, card in zip(when, lines, content["cards"], strict=True):
            text = f"{100 * line['score']:.0f} % right; {len(line['text'])} characters"
            assert card == [f"Edit, {name}", text, line["text"] or "(no edit)"]
        positions = view.page.eval_on_selector_all(".card", "all => all.map(c => [c.offsetLeft, c.offsetTop])")
        lefts, tops = (len(set(each)) for each in zip(*positions))
        assert (lefts, tops) == ((1, len(lines)) if view.phone else (len(lines), 1))
        head, *rows = content["answers"]
        assert [text for text, _ in head] == ["question", "gold", "before", *when]
        for first, row, *each in zip(lines[0]["questions"], rows, *(line["questions"] for line in lines), strict=True):
            before = (answer(first["answer_before"], first["correct_before"]), "right" if first["correct_before"] else "wrong")
            cells = [(first[name], "") for name in ("question", "gold")]
            assert list(map(tuple, row)) == [*cells, before, *(cell(question, first) for question in each)]


def test_previous_and_next_wrap_and_the_address_leads_back(view):
    page, tasks, runs = view.page, view.page.locator("#task"), view.page.locator("#run")
    runs.select_option("rest_em, seed 1")
    tasks.select_option(index=0)
    for name, task in (("Previous", TASKS - 1), ("Next", 0), ("Next", 1), ("Previous", 0), ("Previous", TASKS - 1)):
        page.get_by_role("button", name=name).click()
        assert tasks.input_value() == str(task) and page.url == view.address.replace("task=3", f"task={task}")
    tasks.select_option(index=3)
    assert page.url == view.address and page.evaluate(READ) == view.arrived
    runs.select_option("grpo, seed 0")
    page.goto(view.address)
    assert page.evaluate(READ) == view.arrived and runs.locator("option:checked").inner_text() == "rest_em, seed 1"


def test_there_is_a_heat_map_for_every_agent(view):
    assert sorted(view.page.locator(".maps figcaption").all_inner_texts()) == sorted(AGENTS)
    read = "t => [...t.rows].map(row => [...row.cells].map(c => [c.dataset.value, getComputedStyle(c).backgroundColor]))"
    for table in view.page.locator(".map").all():
        cells = [[each for each in row if each[0] is not None] for row in table.evaluate(read)]
        assert [len(row) for row in cells] == [1, 2, 3]
        known = sorted((float(value), float(colour.rstrip(")").split("/")[1])) for row in cells for value, colour in row)
        opacities = [opacity for _, opacity in known]  # the more is still known, the darker (or, on black, the lighter)
        assert opacities == sorted(opacities) and opacities[0] < opacities[-1]


LEGIBLE = """() => {  // contrasts of every text with what is painted behind it, after WCAG
  const context = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const light = (colours) => {
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    const [red, green, blue] = [...context.getImageData(0, 0, 1, 1).data].map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const all = "h1, h2, h4, p, li, dt, dd, th, td, span, label, legend, button, figcaption, summary, pre, select";
  return [...document.querySelectorAll(all)].map((element) => {
    const behind = [];
    for (let each = element; each; each = each.parentElement) behind.unshift(getComputedStyle(each).backgroundColor);
    const [first, second] = [light(behind), light([...behind, getComputedStyle(element).color])].sort((a, b) => a - b);
    return [(second + 0.05) / (first + 0.05), `${element.tagName}.${element.className}`];
  }).sort((first, second) => first[0] - second[0]);
}"""


PAPERS = {"dark": "rgb(20, 23, 27)", "light": "rgb(255, 255, 255)"}


@pytest.mark.parametrize("scheme", PAPERS)
def test_every_text_is_legible(view, scheme):
    view.page.emulate_media(color_scheme=scheme)
    assert view.page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPERS[scheme]
    ink = view.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink')")
    assert view.page.eval_on_selector_all(".chart", "all => all.map(c => c.layout.font.color)") == [ink] * 4
    assert view.page.evaluate(LEGIBLE)[0] >= [4.5]
