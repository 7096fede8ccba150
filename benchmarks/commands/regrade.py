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
from statistics import mean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.settings import Settings
    from seal_env.evaluation.graders import Answered, Score

Gold = Mapping[tuple[int, str], tuple[str, ...]]  # accepted answers by task and question

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
    from benchmarks.run_directory import add_session, read_settings, write_settings
    from benchmarks.settings import tree_of
    from seal_env.evaluation.graders import get_grader, grade
    from seal_env.files import atomic_folder

    source, out, options = arguments.folder, arguments.out, tree_of(arguments.options)
    settings = read_settings(source)
    _check_gradable(settings)
    if out.exists():
        raise ValueError(f"--out {out} exists: choose another folder")
    grader = get_grader(arguments.grader, options)
    changed = {**settings.evaluation.env_options, "grader": arguments.grader, "grader_options": options}
    new_settings = replace(settings, evaluation=replace(settings.evaluation, env_options=changed, sequences=0))
    gold = {
        (line["task"], question["question"]): tuple(question["answers"])
        for line in _lines(source / "tasks.jsonl")
        for question in line["questions"]
    }
    runs = sorted(path.parent for path in source.glob("runs/*/*/evaluation.jsonl"))
    evaluations = [_lines(folder / "evaluation.jsonl") for folder in runs]
    items = [item for lines in evaluations for line in lines for pair in _answered(line, gold) for item in pair]
    verdicts = grade(grader, items)
    reward = str(new_settings.env_config(training=False).reward or "score")
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
                (target / "environment.json").write_text(json.dumps(resolved, indent=1), encoding="utf-8")
            text = "".join(json.dumps(_regraded(line, gold, verdicts, reward)) + "\n" for line in lines)
            (target / "evaluation.jsonl").write_text(text, encoding="utf-8")
    print(f"{out}: {sum(map(len, evaluations))} evaluated tasks, {len(verdicts)} different answers")
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
    from benchmarks.reports.renamed_keys import load

    return [load(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _answered(line: dict[str, Any], gold: Gold) -> list[tuple[Answered, Answered]]:
    """For every question of an evaluated task, the answers before and after the update."""
    from seal_env.evaluation.graders import Answered

    return [
        (
            Answered(question["question"], question["answer_before"], gold[line["task"], question["question"]]),
            Answered(question["question"], question["answer"], gold[line["task"], question["question"]]),
        )
        for question in line["questions"]
    ]


def _regraded(line: dict[str, Any], gold: Gold, verdicts: Mapping[Answered, Score | None], reward: str) -> dict[str, Any]:
    """The line of an evaluated task with other verdicts, and all that is computed from them."""
    pairs = [(verdicts[before], verdicts[after]) for before, after in _answered(line, gold)]
    questions = [
        {**question, "correct_before": before, "correct": after} for question, (before, after) in zip(line["questions"], pairs)
    ]
    graded = [(was, now) for was, now in pairs if was is not None and now is not None]
    before, after = (mean(column) for column in zip(*graded)) if graded else (0.0, 0.0)
    gain = after - before
    rewards = {"score": after, "gain": gain, "binary": float(gain > 0)}
    scores = {"score_before": before, "score": after, "gain": gain, "scores": [after]}
    return {**line, "reward": rewards[reward], **scores, "questions": questions}
