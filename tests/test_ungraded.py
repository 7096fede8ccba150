"""Ungraded answers: their questions are left out of the scores before and after the update, and counted."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents import ScoredEdit
from agents.callbacks import edit_line
from agents.policy import Completion
from agents.rest_em import SELECTIONS
from benchmarks.cli import main
from benchmarks.reports.report_tables import table_text
from benchmarks.reports.run_records import read
from benchmarks.reports.summary import summarise
from seal_env.envs.engine import _outcome_info
from seal_env.evaluation.evaluator import mean
from seal_env.evaluation.graders import UNGRADED, Answered, Verdict, exact, grade
from seal_env.evaluation.scoring import Outcome, TaskResult
from seal_env.student import FitReport, FitStatus
from seal_env.tasks import Question, Task

refused: set[str] = set()  # answers that the grader below does not grade


def picky(answered: Sequence[Answered]) -> list[Verdict]:
    """Exact match, but refused answers are ungraded; ``*`` refuses all."""
    return [UNGRADED if {"*", item.prediction} & refused else exact(item.prediction, item.answers) for item in answered]


@pytest.fixture(autouse=True)
def nothing_refused() -> Iterator[None]:
    refused.clear()
    yield
    refused.clear()


def result(before: Sequence[Any], after: Sequence[Any]) -> TaskResult:
    task = Task("T", "C", tuple(Question(f"q{i}", ("a",)) for i in range(len(after))))
    texts = ("x",) * len(after)
    return TaskResult.from_verdicts(task, texts, texts, tuple(before), tuple(after))


def outcome(*results: TaskResult) -> Outcome:
    return Outcome(results, FitReport(FitStatus.TRAINED), None)


def test_graders_may_leave_answers_out() -> None:
    refused.add("b")
    items = [Answered("q", prediction, ("a",)) for prediction in "abc"]
    assert list(grade(picky, items).values()) == [True, None, False]


def test_both_scores_are_about_the_questions_that_have_both_verdicts() -> None:
    outcome = result([True, None, False, True], [True, True, None, False])
    assert (outcome.score_before, outcome.score, outcome.graded) == (1.0, 0.5, 2)
    assert (outcome.correct_before[1], outcome.correct[2]) == (None, None)  # verdicts are kept
    assert (outcome.correct[1], outcome.correct_before[2]) == (True, False)


def test_a_task_without_a_graded_question_is_left_out_of_the_outcome() -> None:
    nothing = result([None, True], [True, None])
    assert (nothing.score_before, nothing.score, nothing.graded) == (0.0, 0.0, 0)
    both = outcome(nothing, result([False, 0.5], [True, 0.5]))
    assert (both.score_before, both.score, both.gain, both.graded, both.ungraded) == (0.25, 0.75, 0.5, 2, 2)
    none = outcome(nothing)
    assert (none.score_before, none.score, none.gain, none.graded, none.ungraded) == (0.0, 0.0, 0.0, 0, 2)


# The environment --------------------------------------------------------------------------------------------------------

GRADED = {"grader": f"{__name__}:picky"}


def step(num_envs: int = 2, **keywords: Any) -> tuple[Any, dict[str, Any]]:
    envs = gym.make_vec("SEAL-SQuAD-v0", num_envs=num_envs, **{**GRADED, **keywords})
    observations, _ = envs.reset(seed=3)
    _, rewards, _, _, infos = envs.step(list(observations["context"]))
    return rewards, infos["final_info"]


def test_a_step_leaves_the_question_out_and_says_so() -> None:
    _, info = step()
    changed = next(q["answer"] for q in info["questions"][0] if q["answer"] != q["answer_before"])
    assert list(info["ungraded"]) == [0, 0]
    refused.add(changed)
    rewards, again = step()
    rows = again["questions"][0]
    for row, was in zip(rows, info["questions"][0], strict=True):
        for answer, verdict in (("answer_before", "correct_before"), ("answer", "correct")):
            assert row[answer] == was[answer]
            assert row[verdict] is (None if row[answer] == changed else was[verdict])
    graded = [row for row in rows if None not in (row["correct_before"], row["correct"])]
    assert 0 < len(graded) < len(rows) and again["ungraded"][0] == len(rows) - len(graded)
    assert again["score"][0] == rewards[0] == mean([row["correct"] for row in graded])
    assert again["score_before"][0] == mean([row["correct_before"] for row in graded])
    assert again["gain"][0] == again["score"][0] - again["score_before"][0]


@pytest.mark.parametrize("reward", ["score", "gain", "binary"])
def test_a_step_without_any_verdict_is_worth_nothing_and_says_so(reward: str) -> None:
    refused.add("*")
    rewards, info = step(reward=reward, evaluations_per_edit=2)
    assert list(rewards) == list(info["score"]) == list(info["score_before"]) == list(info["gain"]) == [0.0, 0.0]
    assert list(info["ungraded"]) == [2 * len(rows) for rows in info["questions"]]  # counted in each evaluation
    assert all(row["correct"] is row["correct_before"] is None for rows in info["questions"] for row in rows)


def test_an_evaluation_without_any_verdict_does_not_lower_the_mean_of_the_others() -> None:
    graded, none = outcome(result([False, True], [True, True])), outcome(result([False, True], [None, None]))
    info = _outcome_info([graded, none], [1, 2])
    assert (info["score_before"], info["score"], info["gain"], info["scores"]) == (0.5, 1.0, 0.5, (1.0, 0.0))
    assert info["ungraded"] == 2


def test_a_sequence_of_passages_goes_on() -> None:
    refused.add("*")
    env = gym.make("SEAL-SQuAD-Continual-v0", updates_per_episode=2, retention_weight=0.5, **GRADED)
    observation, _ = env.reset(seed=0)
    for length in (1, 2):
        observation, reward, *_, info = env.step(observation["context"])
        assert reward == 0.0 and info["accuracy_row"] == (0.0,) * length and info["ungraded"] == len(info["questions"])


def test_rendering_colours_only_what_is_graded() -> None:
    refused.add("*")
    env = gym.make("SEAL-SQuAD-v0", render_mode="ansi", **GRADED)
    observation, _ = env.reset(seed=3)
    env.step(observation["context"])
    assert "\x1b[31m" not in env.render() and "\x1b[32m" not in env.render()


def test_rest_em_takes_a_score_of_fewer_questions_for_a_noisier_one() -> None:
    def scored(ungraded: int) -> list[ScoredEdit]:
        info = {"scores": (0.5,), "questions": (None,) * 5, "ungraded": ungraded}
        return [ScoredEdit(0, "", Completion((0,), (1,), "", "eos"), reward, info) for reward in (0.0, 0.2, 0.9)]

    assert [len(SELECTIONS["shrunk"](scored(ungraded), 0.0)) for ungraded in (0, 4, 5)] == [1, 0, 0]


# seal-bench -------------------------------------------------------------------------------------------------------------


def test_eval_counts_what_has_no_verdict_and_leaves_such_tasks_out(capsys, tmp_path: Path) -> None:
    def run(tasks: int) -> str:
        arguments = ["eval", "--env", "SEAL-SQuAD-v0", "--agent", "oracle", "--tasks", str(tasks)]
        assert main([*arguments, "-P", f"grader={__name__}:picky", "--out", str(tmp_path / "edits.jsonl")]) == 0
        return capsys.readouterr().out

    assert "without a verdict" not in run(3)
    lines = [json.loads(line) for line in (tmp_path / "edits.jsonl").read_text().splitlines()]
    refused.update(question["answer"] for question in lines[0]["questions"])
    output = run(3)
    again = [json.loads(line) for line in (tmp_path / "edits.jsonl").read_text().splitlines()]
    left_out = sum(None in (q["correct_before"], q["correct"]) for line in again for q in line["questions"])
    assert f"questions without a verdict {left_out}" in output and left_out >= len(lines[0]["questions"])
    assert again[0]["score"] == 0.0 and f"reward {np.mean([line['reward'] for line in again[1:]]):.3f} " in output


def test_a_line_says_null() -> None:
    info = {"status": "ok", "questions": ({"question": "q", "correct": None, "correct_before": True},)}
    line = edit_line(ScoredEdit(0, "", Completion((0,), (1,), "", "eos"), 0.0, info))
    assert json.loads(json.dumps(line))["questions"] == [{"question": "q", "correct": None, "correct_before": True}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A benchmark whose judge graded no answer of task 0, and left out one answer of every other task."""
    pytest.importorskip("plotly")
    from tests.test_report import json_lines, lines_of, write_benchmark

    folder = write_benchmark(tmp_path / "benchmark")
    for path in folder.glob("runs/*/*/evaluation.jsonl"):
        lines = lines_of(path)
        for line in lines:
            for i, question in enumerate(line["questions"]):
                if line["task"] == 0 or i == 0:
                    question["correct" if i else "correct_before"] = None
            graded = [q for q in line["questions"] if None not in (q["correct"], q["correct_before"])]
            line["score"] = mean([q["correct"] for q in graded]) if graded else 0.0
        json_lines(path, lines)
    return folder


def test_reports_leave_them_out_of_accuracies_and_say_how_many(folder: Path, tmp_path: Path) -> None:
    from benchmarks.commands import report
    from tests.test_report import Page, arguments, lines_of

    records = read([folder])
    for run in records.runs:
        path = folder / "runs" / run.label / f"seed-{run.seed}" / "evaluation.jsonl"
        last = run.points.iloc[-1]
        lines = [line for line in lines_of(path) if line["edits"] == last.name]
        assert last["score"] == pytest.approx(statistics.fmean(line["score"] for line in lines if line["task"]))
        assert last["ungraded"] == 3 + 5
    summary = summarise(records)
    rows = {row.label: row for row in summary.rows}
    assert all(row["ungraded"] == 3 * 8 for row in rows.values())
    tasks = {label: [] for label in rows}
    for label, means in tasks.items():
        for task in range(1, 6):
            finals = [run.final.set_index("task") for run in records.of(label)]
            means.append(statistics.fmean(final["score"][task] for final in finals))
    expected = statistics.fmean(a - b for a, b in zip(tasks["grpo"], tasks["untrained"]))
    assert rows["grpo"]["difference"].value == pytest.approx(expected)
    assert "no score counts: " in table_text(summary) and "grpo 24" in table_text(summary)
    report.run(arguments(folder, "--out", tmp_path / "out"))
    with (tmp_path / "out" / "table.csv").open() as file:
        assert {row["ungraded"] for row in csv.DictReader(file)} == {"24"}
    edit_data = Page((tmp_path / "out" / "report.html").read_text()).json("edit-data")
    verdicts = [q[4:] for run in edit_data["runs"] for point in run["points"] for q in point["rows"]["0"][3]]
    assert all(None in pair for pair in verdicts) and any(pair[0] is not None for pair in verdicts)


def test_where_all_are_graded_reports_say_nothing_of_it(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    from tests.test_report import write_benchmark

    summary = summarise(read([write_benchmark(tmp_path / "benchmark")]))
    assert "no score counts" not in table_text(summary)


def test_a_benchmark_that_nothing_was_graded_in_is_reported_all_the_same(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    from benchmarks.commands import report
    from tests.test_report import arguments, json_lines, lines_of, write_benchmark

    folder = write_benchmark(tmp_path / "benchmark")
    for path in folder.glob("runs/*/*/evaluation.jsonl"):
        lines = lines_of(path)
        for line in lines:
            line["score"] = line["reward"] = 0.0
            for question in line["questions"]:
                question["correct"] = None
        json_lines(path, lines)
    assert report.run(arguments(folder, "--out", tmp_path / "out")) == tmp_path / "out"
    assert "nan" not in (tmp_path / "out" / "table.md").read_text().lower()


def unless(answered: Sequence[Answered], but: str = "") -> list[Verdict]:
    """Exact match, but for questions that begin with ``but``."""
    return [UNGRADED if item.question.startswith(but) else exact(item.prediction, item.answers) for item in answered]


@pytest.mark.parametrize(("but", "left"), [("When", 1), ("W", 0)])
def test_replayed_runs_are_graded_without_them(tmp_path: Path, but: str, left: int) -> None:
    from benchmarks.commands import replay
    from tests.test_replay import PASSAGES, write_runs

    written = write_runs(tmp_path)
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    name = f"{__name__}:unless"
    arguments = [str(tmp_path / "runs"), "--grader", name, "--grader-options", f"but={but}"]
    sections = {section.title.split()[0].rstrip(",:"): section for section in replay.run(parser.parse_args(arguments))}
    assert not any("nan" in cell for name in ("Evaluation", "Joint") for row in sections[name].rows for cell in row.cells)
    row = sections["Evaluation"][f"iter2, by {name}"]
    if not left:
        assert row.ours is None and row.note == f"{2 * PASSAGES} of {2 * PASSAGES} answers not graded"
        return
    questions = [article["completions"][0]["questions"][1] for article in written["eval/iter2.json"]["articles"]]
    assert row.ours.value == pytest.approx(100 * mean([question["adapter_correct"] for question in questions]))
    assert row.note.endswith(f"; {PASSAGES} of {2 * PASSAGES} answers not graded")
