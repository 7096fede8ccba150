"""Whether proxy rewards, the recorded rubric's and the local coverage, agree with the recorded reward of the same edits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.replay.accuracy import edit_table, stem
from benchmarks.replay.aggregation import at_best, over_passages, pearson, reliability, spearman, within
from benchmarks.replay.recordings import RUBRIC, TRAIN, Article, Recordings, Run
from benchmarks.replay.replay_tables import Row, Section, count
from seal_env.edits import EditSettings, parse
from seal_env.rewards import edit_text
from seal_env.rewards.coverage import Coverage


def proxies(recordings: Recordings) -> Section:
    """The proxies' correlations with the reward."""
    runs = recordings.runs
    rows = [*_rubric(recordings), *(row for name in TRAIN if name in runs for row in _coverage(runs[name], name))]
    notes = (
        "the rubric is GPT-4.1's, of the edits of rank_iter0; coverage is the default of reward='proxy' and needs no model",
    )
    title = "Rubric and coverage, proxy rewards, against the real reward of the same edits"
    return Section(title, rows, notes if rows else ())


def _coverage(run: Run, file: str) -> Iterator[Row]:
    settings, proxy = EditSettings(TRAIN[file]), Coverage()
    rewards = edit_table(run, lambda edit: edit.reward).round(9)
    coverages = []
    for article in run.articles:
        document = article.document
        edits = [edit_text(parse(edit.text, document, settings, 0), document) for edit in article.edits]
        coverages.append([score.reward for score in proxy(edits)])
    scores, name = np.array(coverages), f"coverage (local proxy), {stem(file)}"
    yield Row(f"{name}: Pearson's r", over_passages(pearson, scores, rewards), note="all edits")
    yield Row(f"{name}: Spearman's rho", over_passages(spearman, scores, rewards), note="all edits")
    yield Row(f"{name}: r within passages", over_passages(within, scores, rewards))


def _rubric(recordings: Recordings) -> list[Row]:
    real, rated = recordings.runs.get("train/rank_iter0.json"), recordings.runs.get(RUBRIC)
    if real is None or rated is None:
        return []
    same = sum(_edits(first) == _edits(second) for first, second in zip(real.articles, rated.articles))
    rows = [Row("passages with the same edits", count(same, len(real.articles)))]
    if same < max(len(real.articles), len(rated.articles)):
        return [replace(rows[0], note="nothing to compare")]
    rewards = edit_table(real, lambda edit: edit.reward).round(9)
    scores = edit_table(rated, lambda edit: float(edit.rubric or 0))
    note = "what a choice among a passage's edits depends on"
    rows += [
        Row("Pearson's r, all edits", over_passages(pearson, scores, rewards)),
        Row("Spearman's rho, all edits", over_passages(spearman, scores, rewards)),
        Row("Pearson's r within passages", over_passages(within, scores, rewards), note=note),
    ]
    runs = np.array([[edit.scores for edit in article.edits] for article in real.articles])
    if runs.shape[2] > 1 and runs.shape[1] > 1:
        ceiling = over_passages(lambda scores: np.maximum(0, reliability(scores)) ** 0.5, runs)
        note = "square root of the reward's reliability: r of a perfect rubric"
        rows.append(Row("highest possible r within passages", ceiling, note=note))
    is_best = (rewards == rewards.max(-1, keepdims=True)).astype(float)
    hits = over_passages(lambda s, r: at_best(s, r).mean(-1), scores, is_best, scale=100, spec=".0f")
    note = f"by chance {100 * is_best.mean():.0f}; means over ties"
    rows.append(Row("the rubric's best edit is the best, %", hits, note=note))
    lift = over_passages(lambda s, r: (at_best(s, r) - r.mean(-1)).mean(-1), scores, rewards, scale=100, spec="+.1f")
    note = f"best of {rewards.shape[1]} as scored {100 * (rewards.max(-1) - rewards.mean(-1)).mean():+.1f}"
    rows.append(Row("the rubric's choice above the passage's mean", lift, note=note))
    return rows


def _edits(article: Article) -> tuple[str, list[str]]:
    return article.document.context, [edit.text for edit in article.edits]
