"""Recorded accuracies, computed again from answers and verdicts: evaluation, joint update, training, proxies, continual."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.replay.aggregation import (
    Array,
    at_best,
    cross_validated_best,
    mean_figure,
    over_passages,
    pearson,
    reliability,
    spearman,
    within,
)
from benchmarks.replay.grading import SHUFFLE_SEED, Verdicts, agreement, joint_judged, judged, regraded, self_agreement
from benchmarks.replay.recordings import EVAL, JOINT, RUBRIC, TRAIN, Edit, Recordings, Run
from benchmarks.replay.replay_tables import Figure, Row, Section, count
from benchmarks.reports.intervals import paired_difference
from seal_env.edits import EditSettings, parse
from seal_env.evaluation.graders import contains
from seal_env.rewards import edit_text
from seal_env.rewards.coverage import Coverage

PUBLISHED = {  # percent (arXiv 2506.10943v2)
    # Knowledge incorporation, one passage (LoRA).
    "before": 32.7,
    "eval/naive.json": 33.5,
    "eval/base.json": 39.7,
    "eval/iter2.json": 47.0,
    # The same, 200 passages, one update (full fine-tuning).
    JOINT: 58.2,
    # Continual self-edits, means over the matrix.
    "diagonal": 41.5,
    "last row": 24.7,
    "never edited": 30.7,
}
ROUNDED = 1e-4  # the authors round the accuracy of every adapter run to four digits


def evaluation(recordings: Recordings, verdicts: Mapping[str, Verdicts]) -> Section:
    """Accuracy on the evaluation passages, by the recorded verdicts and by graders."""
    runs = {name: recordings.runs[name] for name in EVAL if name in recordings.runs}
    rows = [
        Row(
            f"{stem(name)}: {EVAL[name]}",
            mean_figure(_after(run)),
            _overall(run, "adapter_mean_accuracy", "adapter_std_of_article_means"),
            Figure(PUBLISHED[name]),
        )
        for name, run in runs.items()
    ]
    for name, run in runs.items():
        before = mean_figure([article.edits[0].before for article in run.articles])
        summary = _overall(run, "baseline_mean_accuracy", "baseline_std_of_article_means")
        model = "the model after two rounds" if name == "eval/iter2.json" else "the base model"
        published = Figure(PUBLISHED["before"]) if name == "eval/base.json" else None
        rows.append(Row(f"{stem(name)}: before the update", before, summary, published, model))
    documents = {name: [article.document for article in run.articles] for name, run in runs.items()}
    for worse, better in (("eval/naive.json", "eval/base.json"), ("eval/base.json", "eval/iter2.json")):
        if worse in runs and better in runs and documents[worse] == documents[better]:
            gain = paired_difference(_after(runs[better]), _after(runs[worse]))
            interval = None if gain.low is None or gain.high is None else (100 * gain.low, 100 * gain.high)
            published = Figure(PUBLISHED[better] - PUBLISHED[worse], "+.1f")
            ours = Figure(100 * gain.value, "+.1f", interval=interval)
            rows.append(Row(f"{stem(better)} minus {stem(worse)}", ours, None, published, "same passages"))
    for grader, by_grader in verdicts.items():
        rows += _by_grader(runs, grader, by_grader)
    pairs = [pair for run in runs.values() for pair in judged(run, before=True) + judged(run)]
    if agreement_with_itself := self_agreement(pairs):
        share, answers = agreement_with_itself
        note = f"{answers} answers that it judged more than once, before or after an update"
        rows.append(Row("GPT-4.1 agrees with itself, %", Figure(100 * share), note=note))
    notes = ("agrees: with GPT-4.1 on the answers after the update, correct or not, percent of answers",) if verdicts else ()
    return Section("Evaluation, one self-edit per passage: accuracy after the update", rows, notes)


def _by_grader(runs: Mapping[str, Run], grader: str, verdicts: Verdicts) -> Iterator[Row]:
    again = {name: regraded(run, verdicts) for name, run in runs.items()}
    for name, run in again.items():
        note = agreement(judged(runs[name]), verdicts)
        ours = mean_figure(scores) if (scores := _after(run)) else None
        yield Row(f"{stem(name)}, by {grader}", ours, mean_figure(_after(runs[name])), None, note, comparable=False)
    if len(runs) > 1 and all(map(_after, again.values())):
        yield Row(f"order, by {grader}", _order(again), _order(runs))


def _order(runs: Mapping[str, Run]) -> str:
    return " < ".join(stem(name) for name in sorted(runs, key=lambda name: np.mean(_after(runs[name]))))


def joint(recordings: Recordings, verdicts: Mapping[str, Verdicts]) -> Section:
    """One update on the edits of all passages."""
    title, update = "Joint update on the edits of all passages: accuracy after the update", recordings.joint
    if update is None:
        return Section(title, ())
    correct, questions = 100 * float(np.mean(update.verdicts)), len(update.verdicts)
    rows = [
        Row(
            stem(JOINT),
            Figure(correct, error=(correct * (100 - correct) / questions) ** 0.5),
            Figure(100 * update.accuracy),
            Figure(PUBLISHED[JOINT]),
            f"{questions} questions, the error is over these",
        )
    ]
    pairs = joint_judged(recordings)
    if not pairs:
        return Section(title, rows, (f"{JOINT} has no questions and eval/iter2.json is needed for them: no graders",))
    items = [item for item, _ in pairs]
    fits = sum(contains(item.prediction, item.answers) for item in items)
    shifted = sum(contains(item.prediction, following.answers) for item, following in zip(items, items[1:] + items[:1]))
    note = f"questions are not recorded: the evaluation's, shuffled with {SHUFFLE_SEED} (shifted by one question: {shifted})"
    rows.append(Row("answers that contain the gold answer", count(fits, len(items)), note=note))
    for grader, by_grader in verdicts.items():
        graded = [float(score) for item in items if (score := by_grader[item]) is not None]
        ours, note = Figure(100 * float(np.mean(graded))) if graded else None, agreement(pairs, by_grader)
        rows.append(Row(f"{stem(JOINT)}, by {grader}", ours, Figure(correct), None, note, comparable=False))
    return Section(title, rows)


def training(recordings: Recordings) -> Section:
    """The first round of ReST-EM: the rewards of the edits, and what they are worth."""
    runs = recordings.runs
    rows = [row for name in TRAIN if name in runs for row in _training_round(runs[name], TRAIN[name])]
    if RUBRIC in runs:
        scores = edit_table(runs[RUBRIC], lambda edit: float(edit.rubric or 0))
        ours = mean_figure(scores.mean(-1), scale=1, spec=".2f")
        rows.append(
            Row("proxy: the rubric's score", ours, _overall(runs[RUBRIC], "mean_proxy_score", scale=1), comparable=False)
        )
        sums = [edit.rubric == sum(edit.criteria) for edit in runs[RUBRIC].edits]
        rows.append(Row("proxy: scores that are the sum of their criteria", count(sum(sums), len(sums))))
    notes = (
        "reliability: share of the variance of the reward, within passages, that is the edits' and not the adapter runs' "
        "(one-way ANOVA, 1 - MS within edits / MS between edits of a passage)",
        "worth: chosen by all adapter runs but one, scored by that one; shrunk: mean + reliability x (best of k - mean)",
    )
    return Section("Training, first round: accuracy of the edits that were sampled", rows, notes if rows else ())


def _training_round(run: Run, name: str) -> Iterator[Row]:
    scores = np.array([[edit.scores for edit in article.edits] for article in run.articles])
    rewards, recorded = scores.mean(-1), edit_table(run, lambda edit: edit.score)
    before = edit_table(run, lambda edit: edit.before)
    best_of, equal = f"best of {rewards.shape[1]}", abs(rewards - recorded) <= ROUNDED
    yield Row(f"{name}: before the update", mean_figure(before.mean(-1)), _overall(run, "baseline_mean_accuracy"))
    yield Row(f"{name}: after the update", mean_figure(rewards.mean(-1)), _overall(run, "adapter_mean_accuracy"))
    ours = count(equal.sum(), equal.size)
    yield Row(f"{name}: rewards as recorded", ours, count(equal.size, equal.size), note="to four digits")
    yield Row(f"{name}: {best_of}, as scored", mean_figure(rewards.max(-1)), Figure(100 * recorded.max(-1).mean()))
    if scores.shape[2] > 1 and scores.shape[1] > 1:
        estimated = over_passages(reliability, scores)
        shrunk = rewards.mean() + max(0.0, estimated.value) * (rewards.max(-1).mean() - rewards.mean())
        yield Row(f"{name}: {best_of}, worth", mean_figure(cross_validated_best(scores)))
        yield Row(f"{name}: {best_of}, shrunk", Figure(100 * float(shrunk)))
        yield Row(f"{name}: reliability of a reward", estimated, note=f"mean of {scores.shape[2]} adapter runs")
    gains, recorded_gains = (rewards - before).round(9), edit_table(run, lambda edit: edit.gain)
    useless, recorded_useless = (
        count((gain[np.arange(len(gain)), reward.argmax(-1)] <= 0).sum(), len(gain))
        for gain, reward in ((gains, rewards.round(9)), (recorded_gains, recorded))
    )
    yield Row(f"{name}: kept edits without gain", useless, recorded_useless)
    verdicts: dict[bool, list[float]] = {True: [], False: []}  # by whether the edit contains the gold answer
    for edit in run.edits:
        for result in edit.results:
            for question, correct in zip(result.task.questions, result.correct):
                if correct is not None:
                    verdicts[contains(edit.text, question.answers)].append(float(correct))
    for where, graded in (("in the edit", verdicts[True]), ("not in the edit", verdicts[False])):
        if graded:
            note = f"{100 * len(graded) / sum(map(len, verdicts.values())):.0f} % of questions"
            yield Row(f"{name}: gold answer {where}", Figure(100 * float(np.mean(graded))), note=note)


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
    texts = [[(a.document.context, [edit.text for edit in a.edits]) for a in run.articles] for run in (real, rated)]
    same = sum(first == second for first, second in zip(*texts))
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


def continual(recordings: Recordings) -> Section:
    """Forgetting over several updates in a row."""
    title = "Continual self-edits: accuracy on earlier passages after each update"
    if recordings.continual is None:
        return Section(title, ())
    matrix = 100 * recordings.continual["matrix"]
    never, after = matrix[0], matrix[1:]
    diagonal = np.diag(after)
    rows = (
        Row("diagonal: just learnt", Figure(diagonal.mean()), None, Figure(PUBLISHED["diagonal"])),
        Row("last row: after all updates", Figure(after[-1].mean()), None, Figure(PUBLISHED["last row"])),
        Row("first row: never edited", Figure(never.mean()), None, Figure(PUBLISHED["never edited"])),
        Row("forgetting: diagonal minus last row", Figure((diagonal - after[-1]).mean())),
    )
    lines = [f"{'update':>6}  passage {'':<4}" + "".join(f"{j:6d}" for j in range(1, len(never) + 1))]
    for i, row in enumerate(matrix):
        known = row if i == 0 else row[:i]
        lines.append(f"{i or 'none':>6}  {'':12}" + "".join(f"{cell:6.1f}" for cell in known))
    return Section(title, rows, (f"means over {recordings.continual['sequences']} sequences of passages",), lines)


def edit_table(run: Run, value: Callable[[Edit], float]) -> Array:
    """``value`` of every edit, ``(passages, edits)``."""
    return np.array([[value(edit) for edit in article.edits] for article in run.articles])


def stem(file: str) -> str:
    return Path(file).stem


def _after(run: Run) -> list[float]:
    """Mean reward of the edits of each article that has a graded answer."""
    graded = ([edit.reward for edit in article.edits if edit.graded] for article in run.articles)
    return [float(np.mean(rewards)) for rewards in graded if rewards]


def _overall(run: Run, mean: str, deviation: str = "", scale: float = 100) -> Figure | None:
    """A mean of the recorded summary, with its standard error if the summary has the standard deviation over passages."""
    if mean not in run.overall:
        return None
    spread = run.overall.get(deviation)
    return Figure(scale * run.overall[mean], error=None if spread is None else scale * spread / len(run.articles) ** 0.5)
