"""The recorded answers, graded again: by other graders in place of the authors' GPT-4.1, and how well these agree with it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.replay.recordings import EVAL, Recordings, Run, answers_of
from benchmarks.settings import tree_of
from seal_env.checks import check_choice
from seal_env.evaluation import answered
from seal_env.evaluation.graders import GRADERS, Answered, Score, get_grader, grade
from seal_env.evaluation.scoring import TaskResult

SHUFFLE_SEED = 42  # of the evaluation passages, and of the joint update's questions

Verdicts = Mapping[Answered, Score | None]
Judged = Sequence[tuple[Answered, bool]]  # answers with GPT-4.1's verdicts


def parse_graders(names: str, options: Sequence[str]) -> dict[str, Any]:
    """Graders by name, from ``--grader`` and ``--grader-options``.

    Raises:
        ValueError: a name or an option is unknown.
    """
    tree = tree_of(options, "--grader-options", "KEY=VALUE")
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if tree and not wanted:
        raise ValueError(f"--grader-options {' '.join(options)}: say which --grader")
    own = {name: tree.pop(name) for name in {*GRADERS, *wanted} if isinstance(tree.get(name), dict)}
    for name in own:
        check_choice("--grader-options NAME.KEY=VALUE: NAME", name, wanted)
    return {name: get_grader(name, {**tree, **own.get(name, {})}) for name in wanted}


def grade_again(recordings: Recordings, graders: Mapping[str, Any]) -> dict[str, Verdicts]:
    """The verdicts of each grader on all answers that a section compares."""
    runs = [recordings.runs[name] for name in EVAL if name in recordings.runs]
    pairs = [pair for run in runs for pair in judged(run, before=True) + judged(run)] + joint_judged(recordings)
    items = [item for item, _ in pairs]
    return {name: grade(grader, items) for name, grader in graders.items()}


def judged(run: Run, before: bool = False) -> list[tuple[Answered, bool]]:
    """A run's answers after the updates, or before them."""
    return [pair for result in run.results for pair in answers_of(result, before)]


def joint_judged(recordings: Recordings) -> list[tuple[Answered, bool]]:
    """The joint update's answers, with their questions, which its file leaves out.

    The questions are those of the evaluation, shuffled, as many as there are answers: the answers fit them
    (:func:`benchmarks.replay.accuracy.joint`).
    """
    run, update = recordings.runs.get("eval/iter2.json"), recordings.joint
    if run is None or update is None:
        return []
    questions = [question for article in run.articles for question in article.task.questions]
    random.Random(SHUFFLE_SEED).shuffle(questions)
    if len(questions) < len(update.answers):
        return []
    items = (Answered(question.question, answer, question.answers) for question, answer in zip(questions, update.answers))
    return list(zip(items, update.verdicts))


def regraded(run: Run, verdicts: Verdicts) -> Run:
    """``run`` with these verdicts in place of the recorded ones."""

    def with_verdicts(result: TaskResult) -> TaskResult:
        before, after = (
            tuple(verdicts[item] for item in answered(result.task, answers))
            for answers in (result.answers_before, result.answers)
        )
        return TaskResult.from_verdicts(result.task, result.answers_before, result.answers, before, after)

    articles = (
        replace(
            article,
            edits=tuple(replace(edit, results=tuple(map(with_verdicts, edit.results))) for edit in article.edits),
        )
        for article in run.articles
    )
    return replace(run, articles=tuple(articles))


def agreement(pairs: Judged, verdicts: Verdicts) -> str:
    """How often a grader agrees with GPT-4.1, and in which direction it errs; scores between 0 and 1 count by their distance.

    Answers without a verdict are left out and counted.
    """
    scores = [(float(score), right) for item, right in pairs if (score := verdicts[item]) is not None]
    left_out = f"{len(pairs) - len(scores)} of {len(pairs)} answers not graded"
    if not scores:
        return left_out
    over = 100 * float(np.mean([max(0.0, score - right) for score, right in scores]))
    under = 100 * float(np.mean([max(0.0, right - score) for score, right in scores]))
    summary = f"agrees {100 - over - under:.1f} %, too kind {over:.1f}, too strict {under:.1f}"
    return summary if len(scores) == len(pairs) else f"{summary}; {left_out}"


def self_agreement(pairs: Iterable[tuple[Answered, bool]]) -> tuple[float, int] | None:
    """How often two of GPT-4.1's verdicts on the same answer to the same question agree, and how many answers have several."""
    groups: dict[Answered, list[bool]] = defaultdict(list)
    for item, right in pairs:
        groups[item].append(right)
    several = [group for group in groups.values() if len(group) > 1]
    compared = sum(len(group) * (len(group) - 1) / 2 for group in several)
    differ = sum(sum(group) * (len(group) - sum(group)) for group in several)
    return (1 - differ / compared, len(several)) if several else None
