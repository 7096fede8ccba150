"""``seal-bench regrade``: grade the stored answers of a benchmark again with another grader, without any update.

The result is a run directory of its own, which ``seal-bench report`` reads. Only evaluations are graded again: the edits of
training rounds, and the rewards that agents learned from, are as they were.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.settings import Settings
    from seal_env.evaluation import Verdicts
    from seal_env.rewards import Reward
    from seal_env.tasks import Task

EXAMPLES = """examples:
  seal-bench regrade runs/squad --grader contains --out runs/squad-contains
  seal-bench regrade runs/squad --grader judge -P model=gpt-4.1 -P base_url=https://api.example.com/v1 --out runs/squad-judge
"""
_COPIED = ("edits.jsonl", "rounds.jsonl", "done.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run directory")
    parser.add_argument("--grader", required=True, help="see seal-bench list graders")
    parser.add_argument(
        "-P", dest="options", metavar="KEY=VALUE", action="append", default=[], help="an option of the grader, as YAML"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NEW", help="the new run directory")


def run(arguments: argparse.Namespace) -> Path:
    """Grade as the arguments of ``seal-bench regrade`` say; returns the new run directory.

    Raises:
        ValueError: an argument cannot work, or the benchmark has no answers to grade.
        GradingError: the grader has no verdict on some answers; nothing is written then.
    """
    from agents.callbacks import append_lines
    from benchmarks.run_directory import add_session, read_settings, write_settings
    from benchmarks.settings import tree_of
    from seal_env.evaluation import ClosedBook
    from seal_env.evaluation.graders import get_grader
    from seal_env.files import atomic_folder, write_json

    source, out, options = arguments.folder, arguments.out, tree_of(arguments.options)
    settings = read_settings(source)
    _check_gradable(settings)
    if out.exists():
        raise ValueError(f"--out {out} exists: choose another folder")
    evaluator = ClosedBook(get_grader(arguments.grader, options))
    changed = {**settings.evaluation.env_options, "grader": arguments.grader, "grader_options": options}
    new_settings = replace(settings, evaluation=replace(settings.evaluation, env_options=changed, sequences=0))
    reward = new_settings.env_config(training=False).reward_function()
    tasks = {line["task"]: _task(line) for line in _lines(source / "tasks.jsonl")}
    runs = sorted(path.parent for path in source.glob("runs/*/*/evaluation.jsonl"))
    evaluations = [_lines(folder / "evaluation.jsonl") for folder in runs]
    answers = [
        (tasks[line["task"]], tuple(question[key] for question in line["questions"]))
        for lines in evaluations
        for line in lines
        for key in ("answer_before", "answer")
    ]
    verdicts = iter(evaluator.verdicts(answers))  # two of each line
    with atomic_folder(out) as new:
        write_settings(new, new_settings)
        shutil.copy2(source / "tasks.jsonl", new)
        add_session(new)
        for folder, lines in zip(runs, evaluations):
            target = new / folder.relative_to(source)
            target.mkdir(parents=True)
            for name in _COPIED:
                if (folder / name).is_file():
                    shutil.copy2(folder / name, target)
            if (folder / "environment.json").is_file():
                resolved = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
                resolved["evaluation"] |= {"grader": arguments.grader, "grader_options": options}
                write_json(target / "environment.json", resolved)
            regraded = [_regraded(line, tasks[line["task"]], next(verdicts), next(verdicts), reward) for line in lines]
            append_lines(target / "evaluation.jsonl", regraded)
    print(f"{out}: {sum(map(len, evaluations))} evaluated tasks, graded by {arguments.grader}")
    return out


def _check_gradable(settings: Settings) -> None:
    """Raise a ValueError unless every evaluated question has one stored answer that a grader can grade."""
    config = settings.env_config(training=False)
    if config.domain != "knowledge":
        raise ValueError(f"domain={config.domain!r} has no graders: its answers are compared with the test grids")
    if config.evaluations_per_edit != 1:
        raise ValueError(
            f"evaluations_per_edit={config.evaluations_per_edit}: the answers of the first evaluation only are stored, which is"
            " not what the scores are means of"
        )
    if config.mode != "single":
        raise ValueError(f"mode={config.mode!r}: only episodes of one update can be graded again")
    if config.reward not in (None, "score", "gain", "binary"):
        raise ValueError(f"reward={config.reward!r} is a function of more than the scores, and cannot be computed again")


def _lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a last line that was torn by a kill is left out."""
    from benchmarks.reports.renamed_keys import load

    return [load(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def _task(line: Mapping[str, Any]) -> Task:
    from seal_env.tasks import Question, Task

    questions = tuple(Question(question["question"], tuple(question["answers"])) for question in line["questions"])
    return Task(line["title"], line["context"], questions)


def _regraded(line: dict[str, Any], task: Task, before: Verdicts, after: Verdicts, reward: Reward) -> dict[str, Any]:
    """The line of an evaluated task with other verdicts, and all that is computed from them."""
    from seal_env.evaluation.scoring import Outcome, TaskResult
    from seal_env.student import FitReport, FitStatus

    result = TaskResult.from_verdicts(task, (), (), before, after)
    outcome = Outcome((result,), FitReport(FitStatus(line["fit_status"])), None)
    verdicts = zip(line["questions"], before, after)
    return {
        **line,
        "reward": reward(outcome),
        "score_before": outcome.score_before,
        "score": outcome.score,
        "gain": outcome.gain,
        "scores": [outcome.score],
        "questions": [{**question, "correct_before": was, "correct": now} for question, was, now in verdicts],
    }
