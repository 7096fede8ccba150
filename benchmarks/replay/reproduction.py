"""What this project computes from the authors' inputs: selected rows, training sequences, tasks and prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from agents.base import ScoredEdit
from agents.policy import Completion
from agents.rest_em import best
from benchmarks.replay.accuracy import stem
from benchmarks.replay.grading import SHUFFLE_SEED
from benchmarks.replay.recordings import EVAL, FORMATS, JOINT, RUBRIC, SELECTION, TRAIN, Edit, Recordings, Run
from benchmarks.replay.replay_tables import Row, Section, count
from seal_env.edits import EditSettings, get_format, parse
from seal_env.tasks import Task, load_tasks

PUBLISHED_SEQUENCES = "8.7 / 7 / 11 / 67"  # of the published runs
PUBLISHED_TOKENS = "51 / 32 / 187"
TOKENIZER = "Qwen/Qwen2.5-7B"


def selection(recordings: Recordings) -> Section:
    """The rows that the authors' ReST-EM kept, and those that ours keeps."""
    rows = []
    for file, kept in recordings.kept.items():
        run = recordings.runs.get(SELECTION[file])
        if run is None:
            continue
        prompts = [get_format(TRAIN[SELECTION[file]]).prompt(article.document) for article in run.articles]
        by_record = _selected(run, prompts, lambda edit: edit.score)
        by_verdicts = _selected(run, prompts, lambda edit: edit.reward)
        rewards = {(prompt, edit.text): edit.reward for prompt, of in zip(prompts, run.articles) for edit in of.edits}
        others = [(mine, theirs) for mine, theirs in zip(by_verdicts, by_record) if mine != theirs]
        tied = sum(abs(rewards[mine] - rewards[theirs]) < 1e-9 for mine, theirs in others)
        note = f"{tied} of the {len(others)} others have equal scores that the record's rounding tells apart" if others else ""
        total = count(len(kept), len(kept))
        for name, ours, theirs, remark in (
            ("rows by recorded scores", by_record, kept, "prompt and edit"),
            ("rows by verdicts", by_verdicts, kept, note),
            ("prompts", prompts, [prompt for prompt, _ in kept], ""),
        ):
            shared = count((Counter[Any](ours) & Counter[Any](theirs)).total(), len(kept))
            rows.append(Row(f"{stem(file)}: {name}", shared, total, None, remark))
    return Section("Selection: rows of the authors' ReST-EM that ours keeps from the same runs", rows)


def _selected(run: Run, prompts: Sequence[str], reward: Callable[[Edit], float]) -> list[tuple[str, str]]:
    """Prompt and edit of the rows that ReST-EM keeps."""
    scored = [
        ScoredEdit(i, prompt, Completion((), (), edit.text, "eos"), reward(edit), {})
        for i, (prompt, article) in enumerate(zip(prompts, run.articles))
        for edit in article.edits
    ]
    return [(row.instruction, row.completion.text) for row in best(scored, 0.0)]


def sequences(recordings: Recordings) -> Section:
    """The training sequences of the edits."""
    runs, rows, notes = recordings.runs, [], []
    for file, edit_format in FORMATS.items():
        if file not in runs or file == RUBRIC:
            continue
        counts = [len(texts) for texts in _sequences(runs[file], EditSettings(edit_format))]
        published = PUBLISHED_SEQUENCES if file == "train/rank_iter0.json" else None
        ours = f"{_mean_median_quantile(counts, 0.9, '.1f')} / {max(counts)}"
        rows.append(Row(f"{stem(file)}: mean / median / p90 / max", ours, None, published, f"{len(counts)} edits"))
    if "train/rank_iter0.json" in runs:
        try:
            tokenizer = AutoTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
        except (OSError, ValueError):
            notes.append(
                f"tokens per sequence (published {PUBLISHED_TOKENS}) are left out: {TOKENIZER} is not in the local cache"
            )
        else:
            texts = [text for edit in _sequences(runs["train/rank_iter0.json"], EditSettings()) for text in edit]
            ours = _mean_median_quantile([len(ids) for ids in tokenizer(texts)["input_ids"]], 0.95, ".0f")
            rows.append(Row("rank_iter0: tokens per sequence, mean / median / p95", ours, None, PUBLISHED_TOKENS))
    iter2, update = runs.get("eval/iter2.json"), recordings.joint
    if iter2 and update:
        # The passage is trained on once, not once per edit.
        total = sum(update.edits * (len(texts) - 1) + 1 for texts in _sequences(iter2, update.settings))
        note = f"{update.edits} edits per passage, of which one is recorded; the others are assumed to split alike"
        rows.append(Row(f"{stem(JOINT)}: all sequences", count(total), count(update.sequences), None, note))
    return Section("Sequences that an edit is split into, the passage included", rows, notes)


def _sequences(run: Run, settings: EditSettings) -> list[tuple[str, ...]]:
    return [parse(edit.text, article.task, settings, seed=0).sequences for article in run.articles for edit in article.edits]


def _mean_median_quantile(counts: Sequence[int], quantile: float, spec: str) -> str:
    return f"{np.mean(counts):{spec}} / {np.median(counts):g} / {np.quantile(counts, quantile, method='higher')}"


def tasks(recordings: Recordings, squad: Path, required: bool = False) -> Section:
    """The evaluation's passages and questions from SQuAD, and the prompt of every passage.

    Args:
        squad: SQuAD's development set; its rows are left out if it is missing, unless it is ``required``.
    """
    rows, notes = [], []
    evaluated = {name: recordings.runs[name] for name in EVAL if name in recordings.runs}
    if evaluated and (required or squad.is_file()):
        limit = max(len(run.articles) for run in evaluated.values())
        ours = list(load_tasks(squad, seed=SHUFFLE_SEED, limit=limit))
        for name, run in evaluated.items():
            theirs = [article.task for article in run.articles]
            same = sum((mine.title, mine.context) == (task.title, task.context) for mine, task in zip(ours, theirs))
            rows.append(Row(f"{stem(name)}: passages", count(same, len(theirs)), note="in their order"))
            pairs = (pair for mine, task in zip(ours, theirs) for pair in zip(_questions(mine), _questions(task)))
            same = sum(mine == question for mine, question in pairs)
            rows.append(Row(f"{stem(name)}: questions", count(same, sum(len(task.questions) for task in theirs))))
    elif evaluated:
        notes.append(f"passages and questions are left out: no {squad} (--squad FILE)")
    for file, edit_format in FORMATS.items():
        if file in recordings.runs:
            articles = recordings.runs[file].articles
            same = sum(get_format(edit_format).prompt(article.document) == article.prompt for article in articles)
            rows.append(Row(f"{stem(file)}: prompts", count(same, len(articles)), note=edit_format))
    return Section(f"Tasks and prompts, rebuilt: SQuAD shuffled with {SHUFFLE_SEED}, and the edit formats", rows, notes)


def _questions(task: Task) -> list[tuple[str, str]]:
    return [(question.question, question.answers[0]) for question in task.questions]
