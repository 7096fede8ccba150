"""`seal-bench report`: its figures are those of the JSON lines, and no text of an edit becomes markup."""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import math
import random
import re
import shutil
import statistics
import string
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("plotly")

from benchmarks.commands import report
from benchmarks.reports import renamed_keys
from benchmarks.reports.metrics import METRICS, Metric, register_metric
from benchmarks.reports.page import page
from benchmarks.reports.report_tables import table_text
from benchmarks.reports.run_records import read
from benchmarks.reports.summary import Options, summarise

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u2028\u2029 & "quotes" \' {{ 7 * 7 }} \ud800 $x$'
TASKS, QUESTIONS, POINTS, EVERY = 6, 3, (0, 8, 16), 8
BENCHMARK = {
    "env": "SEAL-SQuAD-v0",
    "env_options": {"learning_rate": 1e-3},
    "policy": {"model": "seal-nano"},
    "seeds": [0, 1, 2],
    "budget": 16,
    "evaluation": {"tasks": TASKS, "every": EVERY, "env_options": {"split": "test"}},
}
AGENTS = ("rest_em", "grpo", "untrained")


def json_lines(path: Path, lines: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def evaluation_line(rng: random.Random, task: int, edits: int) -> dict:
    questions = [
        {
            "question": f"Question {i} of {task}? {HOSTILE if i == 0 else ''}",
            "gold": gold,
            "answer_before": rng.choice(["", "no", HOSTILE]),
            "answer": rng.choice([gold, "another", HOSTILE]),
            "correct_before": rng.random() < 0.2,
            "correct": rng.random() < 0.3 + 0.02 * edits,
        }
        for i, gold in enumerate(("The Bell!", f"{task}", "1874"))
    ]
    text = " ".join(rng.choices(["bell", "in 1874", "18745", str(task), HOSTILE, "Edda"], k=rng.randint(0, 5)))
    score = sum(question["correct"] for question in questions) / QUESTIONS
    status = {"fit_status": "trained", "score_before": 0.0, "score": score}
    return {"edits": edits, "task": task, "reward": score - 0.1, "text": text, **status, "questions": questions}


def write_benchmark(folder: Path, agents: tuple[str, ...] = AGENTS, domain: str = "knowledge", **changes: object) -> Path:
    settings = {**BENCHMARK, **changes}
    about = {label: {"agent": label.split("+")[0], "config": {}, "self_adapting": False} for label in agents}
    folder.mkdir(parents=True)
    (folder / "benchmark.json").write_text(json.dumps({**settings, "agents": about}))
    (folder / "about.json").write_text(json.dumps({"command": ["seal-bench", HOSTILE], "versions": {"torch": "2.9"}}))
    tasks = [{"task": i, "title": f"{HOSTILE} {i}", "context": HOSTILE, "questions": []} for i in range(TASKS)]
    json_lines(folder / "tasks.jsonl", tasks)
    for label in agents:
        for seed in settings["seeds"]:
            path, rng = folder / "runs" / label / f"seed-{seed}", random.Random(f"{label}{seed}")
            points = POINTS[:1] if label == "untrained" else POINTS
            lines = [evaluation_line(rng, task, edits) for edits in points for task in range(TASKS)]
            json_lines(path / "evaluation.jsonl", lines)
            (path / "done.json").write_text("{}")
            (path / "environment.json").write_text(json.dumps({"evaluation": {"domain": domain}}))
            rows = [[rng.randint(0, 4) / 4 for _ in range(t + 1)] for t in range(3)]
            more = [[rng.randint(0, 4) / 4 for _ in range(t + 1)] for t in range(3)]
            steps = [
                {"sequence": i, "step": t, "task": t, "accuracy_row": row}
                for i, s in enumerate((rows, more))
                for t, row in enumerate(s)
            ]
            json_lines(path / "continual.jsonl", steps)
            if label != "untrained":
                edits = [
                    {"edit": i, "task": i, "reward": 0.5, "text": HOSTILE, "tokens": rng.randint(9, 99)} for i in range(16)
                ]
                for edit in edits[::2]:
                    edit["scores"] = [0.5, 0.5]  # scored with two updates
                json_lines(path / "edits.jsonl", edits)
                rounds = [{"edits": e, "reward": 0.5, "seconds": {"a": rng.random(), "b": 1.5}} for e in (4, 8, 12, 16)]
                for each in rounds:
                    each |= {"loss": rng.gauss(0, 1), "kl": None}
                json_lines(path / "rounds.jsonl", rounds)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmark(tmp_path_factory.mktemp("report") / "benchmark")


@pytest.fixture(scope="module")
def out(folder: Path) -> Path:
    return report.run(arguments(folder))


def arguments(*given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return parser.parse_args([str(each) for each in given])


class Page(HTMLParser):
    """Scripts, and the cells of tables by id: their text and ``data-value``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict, str]] = []
        self.tables: dict[str, list[list[tuple[str, str | None]]]] = {}
        self.tags: list[tuple[str, dict]] = []
        self._table, self._cell, self._script = "", False, False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append((tag, named))
        self._script = tag == "script"
        if tag == "script":
            self.scripts.append((named, ""))
        if tag == "table":
            self._table = named.get("id") or f"{named.get('class')}-{len(self.tables)}"
            self.tables[self._table] = []
        if tag == "tr" and self._table:
            self.tables[self._table].append([])
        if tag in ("td", "th"):
            self.tables[self._table][-1].append(("", named.get("data-value")))
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False
        if tag == "script":
            self._script = False

    def handle_data(self, data):
        if self._script:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._cell:
            row = self.tables[self._table][-1]
            row[-1] = (row[-1][0] + data, row[-1][1])

    def json(self, name: str):
        return next(json.loads(text) for named, text in self.scripts if named.get("id") == name)


@pytest.fixture(scope="module")
def html(out: Path) -> Page:
    return Page((out / "report.html").read_text())


# Recomputed from the lines in plain Python -------------------------------------------------------------------------


def lines_of(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def normal(text: str) -> list[str]:
    kept = "".join(" " if c.isspace() else c for c in text.lower() if c not in string.punctuation)
    return [word for word in kept.split() if word not in ("a", "an", "the")]


def occurs(gold: str, edit: str) -> bool:
    gold_words, words = normal(gold), normal(edit)
    return any(words[i : i + len(gold_words)] == gold_words for i in range(len(words)))


def recomputed(run: Path, edits: int) -> dict[str, float]:
    rows = [line for line in lines_of(run / "evaluation.jsonl") if line["edits"] == edits]
    covered = [statistics.fmean(occurs(q["gold"], line["text"]) for q in line["questions"]) for line in rows]
    spent = [line for line in lines_of(run / "edits.jsonl") if line["edit"] < edits]
    return {
        "score": statistics.fmean(line["score"] for line in rows),
        "coverage": statistics.fmean(covered),
        "length": statistics.fmean(len(line["text"]) for line in rows),
        "tokens": sum(line["tokens"] * len(line.get("scores", [0])) for line in spent),
        "seconds": sum(sum(r["seconds"].values()) for r in lines_of(run / "rounds.jsonl") if r["edits"] <= edits),
    }


def runs_of(folder: Path, label: str) -> list[dict[int, dict[str, float]]]:
    points = POINTS[:1] if label == "untrained" else POINTS
    return [{edits: recomputed(run, edits) for edits in points} for run in sorted((folder / "runs" / label).iterdir())]


def interval(values: list[float], share: bool = True) -> tuple[float, float, float]:
    """Mean of three seeds and its 95 % t interval, which for a share ends at 0 and 1."""
    mean, half = statistics.fmean(values), 4.302652729911275 * statistics.stdev(values) / math.sqrt(3)
    return (mean, max(mean - half, 0), min(mean + half, 1)) if share else (mean, mean - half, mean + half)


def close(a: float, b: float) -> bool:
    return abs(a - b) < 1e-9 * max(1, abs(b))


def test_the_curves_are_those_of_the_lines(folder, html):
    curves = {curve["label"]: curve for curve in html.json("curve-data")}
    assert set(curves) == set(AGENTS)
    for label, curve in curves.items():
        runs = runs_of(folder, label)
        assert [point["edits"] for point in curve["points"]] == list(runs[0])
        for point in curve["points"]:
            figures = [run[point["edits"]] for run in runs]
            assert point["seeds"] == 3
            for name in ("tokens", "seconds"):
                assert close(point[name], statistics.fmean(each[name] for each in figures))
            for name in ("score", "coverage", "length"):
                expected = interval([each[name] for each in figures], share=name != "length")
                assert all(map(close, point[name], expected)), (label, point["edits"], name)


def test_the_figures_of_training_are_those_of_the_rounds(folder, html):
    for curve in html.json("curve-data"):
        runs = sorted((folder / "runs" / curve["label"]).iterdir())
        rounds = {run.name.removeprefix("seed-"): lines_of(run / "rounds.jsonl") for run in runs}
        assert set(curve["training"]) == (set() if curve["label"] == "untrained" else {"reward", "loss"})  # kl is never known
        for name, values in curve["training"].items():
            assert values["single"] == {seed: [[line["edits"], line[name]] for line in each] for seed, each in rounds.items()}
            for (edits, mean, seeds), lines in zip(values["mean"], zip(*rounds.values()), strict=True):
                assert (edits, seeds) == (lines[0]["edits"], 3)
                assert close(mean, statistics.fmean(line[name] for line in lines))


def test_the_table_is_that_of_the_lines(folder, out, html):
    head, *rows = html.tables["figures"]
    names = [text for text, _ in head]
    figures = {row[0][1]: dict(zip(names, row)) for row in rows}
    finals = {label: [run[max(run)]["score"] for run in runs_of(folder, label)] for label in AGENTS}
    assert list(figures) == sorted(AGENTS, key=lambda label: -statistics.fmean(finals[label]))
    learners = [label for label in AGENTS if label != "untrained"]
    start = statistics.fmean(run[0]["score"] for label in learners for run in runs_of(folder, label))
    target = (start + max(statistics.fmean(finals[label]) for label in learners)) / 2
    for label in AGENTS:
        cells, runs, final = figures[label], runs_of(folder, label), finals[label]
        assert close(float(cells["score"][1]), statistics.fmean(final))
        _, low, high = interval(final)
        spread = f"[{100 * low:.1f}, {100 * high:.1f}]"
        assert cells["score"][0] == f"{100 * statistics.fmean(final):.1f} {spread}"
        assert cells["each seed"][0] == " ".join(f"{100 * score:.1f}" for score in final)
        last = [run[max(run)] for run in runs]
        assert close(float(cells["coverage"][1]), statistics.fmean(each["coverage"] for each in last))
        assert close(float(cells["length"][1]), statistics.fmean(each["length"] for each in last))
        if label == "untrained":
            assert [cells[name][0] for name in ("area", f"to {100 * target:.1f}", "tokens", "collapsed")] == ["-"] * 4
            continue
        scores = [[run[edits]["score"] for edits in POINTS] for run in runs]
        areas = [(s[0] / 2 + s[1] + s[2] / 2) / 2 for s in scores]
        assert close(float(cells["area"][1]), statistics.fmean(areas))
        reached = sorted(next((e for e, score in zip(POINTS, each) if score >= target), 1e18) for each in scores)
        assert float(cells[f"to {100 * target:.1f}"][1]) == reached[1]
        collapsed = sum(max(each) - each[-1] > 0.05 for each in scores)
        assert cells["collapsed"][0] == f"{collapsed}/3"
        assert close(float(cells["tokens"][1]), statistics.fmean(each["tokens"] for each in last))
        ours, theirs = (task_means(folder, each) for each in (label, "untrained"))
        difference = statistics.fmean(a - b for a, b in zip(ours, theirs))
        assert close(float(cells["vs untrained"][1]), difference)
    with (out / "table.csv").open() as file:
        for line in csv.DictReader(file):
            final = finals[line["label"]]
            estimate = [float(line[name]) for name in ("score", "score_low", "score_high")]
            assert all(map(close, estimate, interval(final)))


def task_means(folder: Path, label: str) -> list[float]:
    runs = [lines_of(run / "evaluation.jsonl")[-TASKS:] for run in sorted((folder / "runs" / label).iterdir())]
    return [statistics.fmean(line["score"] for line in task) for task in zip(*runs)]


def test_the_matrices_are_those_of_the_lines(folder, html):
    wins, margins = (table for name, table in html.tables.items() if name.startswith("matrix"))
    labels = [text for text, _ in wins[0][1:]]
    for i, row in enumerate(labels):
        for j, column in enumerate(labels):
            if row == column:
                continue
            ours, theirs = ([run[max(run)]["score"] for run in runs_of(folder, label)] for label in (row, column))
            won = statistics.fmean((a > b) + (a == b) / 2 for a in ours for b in theirs)
            assert close(float(wins[i + 1][j + 1][1]), won)
            means = zip(task_means(folder, row), task_means(folder, column))
            assert close(float(margins[i + 1][j + 1][1]), statistics.fmean(a - b for a, b in means))


def test_forgetting_is_that_of_the_lines(folder, out, html):
    maps = [table for name, table in html.tables.items() if name.startswith("map")]
    head, *rows = next(table for name, table in html.tables.items() if name.startswith("plain"))
    assert [text for text, _ in head] == ["agent", "learnt", "kept", "forgotten"] and len(maps) == len(rows) == len(AGENTS)
    for row, cells in zip(rows, maps):
        steps = [lines_of(run / "continual.jsonl") for run in sorted((folder / "runs" / row[0][0].strip()).iterdir())]
        matrices = [[[line["accuracy_row"] for line in seed if line["sequence"] == i] for i in range(2)] for seed in steps]
        for t in range(3):
            for i in range(t + 1):
                expected = statistics.fmean(matrix[t][i] for seed in matrices for matrix in seed)
                assert close(float(cells[t][i][1]), expected)
        learnt = statistics.fmean(matrix[t][t] for seed in matrices for matrix in seed for t in range(3))
        kept = statistics.fmean(matrix[2][t] for seed in matrices for matrix in seed for t in range(3))
        lost = statistics.fmean(matrix[t][t] - matrix[2][t] for seed in matrices for matrix in seed for t in range(2))
        assert all(close(float(cell[1]), value) for cell, value in zip(row[1:], (learnt, kept, lost)))
    with (out / "forgetting.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(AGENTS) * 6


def test_the_reader_has_every_evaluated_edit_as_it_was_written(folder, html):
    data = html.json("edit-data")
    texts, seen = data["texts"], 0
    for run in data["runs"]:
        path = folder / "runs" / run["label"] / f"seed-{run['seed']}" / "evaluation.jsonl"
        points = {point["edits"]: point["rows"] for point in run["points"]}
        for line in lines_of(path):
            edit, score, status, questions = points[line["edits"]][str(line["task"])]
            assert (texts[edit], score, texts[status]) == (line["text"], line["score"], "trained")
            for question, (question_text, gold, before, after, was, now) in zip(line["questions"], questions, strict=True):
                assert [texts[n] for n in (question_text, gold, before, after)] == list(question.values())[:4]
                assert (bool(was), bool(now)) == (question["correct_before"], question["correct"])
            seen += 1
    assert seen == TASKS * 3 * (2 * len(POINTS) + 1)


def test_no_text_of_an_edit_becomes_markup(out, html):
    text = (out / "report.html").read_text()
    assert len(html.scripts) == 4 and not [tag for tag in html.tags if tag[0] == "img"]
    assert "<script>alert" not in text and 'onerror="alert' not in text and "49 " not in html.json("edit-data")["texts"][0]
    assert "\u2028" not in "".join(text for named, text in html.scripts if named)
    assert not [v for tag, named in html.tags for n, v in named.items() if n in ("src", "href") and not v.startswith("data:")]


def test_the_page_loads_nothing_from_elsewhere(html):
    policy = next(named["content"] for tag, named in html.tags if named.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_everything_is_written_and_equal_records_make_equal_files(folder, out, tmp_path, capsys):
    pictures = {f"{name}.{kind}" for name in ("curves", "edits", "forgetting") for kind in ("png", "svg")}
    names = {"table.md", "table.csv", "curves.csv", "forgetting.csv", "report.html"} | pictures
    assert {path.name for path in out.iterdir()} == names
    assert (out / "curves.png").stat().st_size > 10_000
    again = report.run(arguments(folder, "--out", tmp_path / "again"))
    for name in names:
        assert (again / name).read_bytes() == (out / name).read_bytes(), name
    printed = capsys.readouterr().out
    assert re.search(r"^rest_em +\d+\.\d \[\d+\.\d, \d+\.\d\]", printed, re.M) and "3 seeds" in printed
    assert max(map(len, table_text(read([folder])).split("\n")[: len(AGENTS) + 2])) <= 128


def test_coverage_is_only_computed_where_edits_can_hold_the_answers(tmp_path):
    """Few-shot tasks have grids as answers, also where a grid is a single line: no value, no panel, and no error."""
    folder = write_benchmark(tmp_path / "grids", domain="arc")
    report.run(arguments(folder, "--out", tmp_path / "out"))
    with (tmp_path / "out" / "table.csv").open() as file:
        assert {row["coverage"] for row in csv.DictReader(file)} == {""}
    assert "gold answers in the edit" not in (tmp_path / "out" / "edits.svg").read_text()


def test_an_unfinished_run_is_reported_and_not_counted(tmp_path):
    folder = write_benchmark(tmp_path / "benchmark")
    path = folder / "runs" / "grpo" / "seed-1"
    (path / "done.json").unlink()
    torn = path / "evaluation.jsonl"
    torn.write_text(torn.read_text()[:-30])  # the last task is torn, so the last evaluation is not complete
    shutil.rmtree(folder / "runs" / "rest_em" / "seed-2")
    summary = summarise(read([folder]))
    rows = {row.label: row for row in summary.rows}
    assert rows["grpo"].seeds == (0, 2) and rows["rest_em"].seeds == (0, 1) and rows["grpo"].planned == 3
    assert [point.seeds for point in summary.curves["grpo"]] == [3, 3, 2]
    assert {
        "grpo, seed 1: unfinished, evaluated up to 8 scored edits.",
        "grpo, seed 1: the last line of evaluation.jsonl is torn and left out.",
        "grpo, seed 1: the evaluation at 16 scored edits has 5 of 6 tasks and is left out.",
        "rest_em, seed 2: not evaluated yet.",
    } <= set(summary.notes)
    page(summary)


def test_equal_settings_pool_and_a_run_in_two_folders_counts_once(tmp_path, folder):
    more = write_benchmark(tmp_path / "more", ("rest_em", "untrained"), seeds=[2, 3])
    records = read([folder, more, folder])
    assert [run.seed for run in records.of("rest_em")] == [0, 1, 2, 3] and len(records.of("grpo")) == 3
    assert summarise(records).rows[0].planned in (3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 32}, "budget is 16 and 32"),
        ({"env": "SEAL-SQuAD-Other-v0"}, "env is 'SEAL-SQuAD-v0' and 'SEAL-SQuAD-Other-v0'"),
        ({"env_options": {}}, "env_options.learning_rate is 0.001 and not set"),
        ({"evaluation": {**BENCHMARK["evaluation"], "every": 4}}, "evaluation.every is 8 and 4"),
    ],
)
def test_other_settings_are_not_pooled(tmp_path, folder, changes, message):
    other = write_benchmark(tmp_path / "other", ("grpo",), **changes)
    with pytest.raises(ValueError, match=f"cannot be pooled: {re.escape(message)}"):
        read([folder, other])


def test_another_result_of_one_run_is_not_pooled(tmp_path, folder):
    other = write_benchmark(tmp_path / "other", ("grpo",))
    path = other / "runs" / "grpo" / "seed-0" / "evaluation.jsonl"
    lines = lines_of(path)
    json_lines(path, [{**lines[0], "text": "another"}, *lines[1:]])
    with pytest.raises(ValueError, match="both hold 'grpo' with seed 0"):
        read([folder, other])


def test_what_cannot_be_read_is_named(tmp_path):
    folder = write_benchmark(tmp_path / "benchmark")
    path = folder / "runs" / "grpo" / "seed-0" / "evaluation.jsonl"
    lines = lines_of(path)
    for broken, message in (
        ("{\n" + json.dumps(lines[0]) + "\n", "line 1 is not JSON"),
        (json.dumps({"edits": 0, "task": 0}) + "\n", "line 1: no 'score'"),
        (json.dumps({**lines[0], "task": 99}) + "\n", "task 99 is not in tasks.jsonl"),
        (json.dumps(lines[0]) + "\n" + json.dumps(lines[0]) + "\n", "evaluated twice"),
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=message):
            read([folder])
    for given, message in (
        ([tmp_path], "benchmark.json is missing"),
        ([folder, folder], "--out must name a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            report.run(arguments(*given))
    path.unlink()
    for options, message in (({"reference": "nobody"}, "no agent 'nobody'"), ({"target": 40}, "target must be a share")):
        with pytest.raises(ValueError, match=message):
            summarise(read([folder]), Options(**options))


# Columns and names from outside -------------------------------------------------------------------------------------------

WORDS = Metric(
    "words",
    "words",
    "words of an edit",
    per_point=lambda tasks: statistics.fmean(len(text.split()) for text in tasks["text"]),
    format=".2f",
)
BEST = Metric("best_reward", "best", "highest reward in training", per_run=lambda run: run.edits["reward"].max(), format=".2f")


@pytest.fixture
def registry(monkeypatch):
    """The table of metrics, restored after the test."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))


def test_a_metric_from_outside_is_a_column_and_a_curve_of_every_report(folder, tmp_path, capsys, registry):
    register_metric(WORDS)
    out = report.run(arguments(folder, "--out", tmp_path, "--metric", f"{__name__}:BEST"))
    head = capsys.readouterr().out.splitlines()[0].split()
    assert head[-2:] == ["words", "best"]
    assert (out / "table.md").read_text().splitlines()[0].endswith("| words | best |")
    finals = {
        label: [
            statistics.fmean(len(line["text"].split()) for line in lines_of(run / "evaluation.jsonl")[-TASKS:])
            for run in (folder / "runs" / label).iterdir()
        ]
        for label in AGENTS
    }
    with (out / "table.csv").open() as file:
        for row in csv.DictReader(file):
            assert close(float(row["words"]), statistics.fmean(finals[row["label"]]))
            assert row["best_reward"] == ("" if row["label"] == "untrained" else "0.5")
    with (out / "curves.csv").open() as file:
        last = {row["label"]: float(row["words"]) for row in csv.DictReader(file)}
    assert all(close(last[label], statistics.fmean(values)) for label, values in finals.items())
    html = Page((out / "report.html").read_text())
    columns = [text for text, _ in html.tables["figures"][0]]
    for cells in html.tables["figures"][1:]:
        row = dict(zip(columns, cells))
        assert row["words"][0] == f"{statistics.fmean(finals[row['agent'][1]]):.2f}"
    assert {"data-measure": "words", "data-scale": "1", "data-digits": "2"}.items() <= {
        name: value
        for tag, attributes in html.tags
        if attributes.get("data-measure") == "words"
        for name, value in attributes.items()
    }.items()
    assert "words" in html.json("curve-data")[0]["points"][0] and ">words</text>" in (out / "edits.svg").read_text()


def test_metrics_that_cannot_be_added_are_named(folder, tmp_path, registry):
    register_metric(WORDS)
    for metric, message in ((WORDS, "'words' exists already"), (len, "must be a benchmarks.reports.metrics.Metric")):
        with pytest.raises(ValueError, match=message):
            register_metric(metric)
    with pytest.raises(ValueError, match=r"no metric 'lenght'\. Did you mean 'length'"):
        report.run(arguments(folder, "--out", tmp_path, "--metric", "lenght"))


def test_every_path_of_the_key_map_can_be_imported():
    for path in renamed_keys._MAP["paths"].values():
        module, _, name = path.partition(":")
        assert hasattr(importlib.import_module(module), name or "__name__"), path


def test_a_run_directory_with_old_names_is_read_with_the_new_ones(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(renamed_keys, "_KEYS", {**renamed_keys._KEYS, "marks": "verdicts", "old_text": "text"})
    old = write_benchmark(tmp_path / "old")
    benchmark = json.loads((old / "benchmark.json").read_text())
    benchmark["agents"] = {
        **benchmark["agents"],
        "grpo": {"agent": "hand_made", "config": {"grader": "seal_env.grading.judge:judge"}},
    }
    (old / "benchmark.json").write_text(json.dumps(benchmark))
    for path in old.glob("runs/*/*/evaluation.jsonl"):
        json_lines(path, [{("old_text" if key == "text" else key): line[key] for key in line} for line in lines_of(path)])
    records = read([old])
    assert records.agents["grpo"].agent == "oracle"
    assert records.agents["grpo"].config == {"grader": "seal_env.evaluation.graders.judge:judge"}
    for run, same in zip(records.runs, read([folder]).runs, strict=True):
        assert run.evaluations["text"].tolist() == same.evaluations["text"].tolist()
