"""``seal-bench replay``: what SEAL's authors recorded, put through this project's code, beside what they published.

Tasks come from the loader, prompts from the edit formats, training sequences from the parser, kept edits from ReST-EM's
selection, scores from the recorded verdicts or, with ``--grader``, from graders in place of the authors' GPT-4.1. No model is
run. Rows whose files are not there are left out, and the files are named.
"""

from __future__ import annotations

import argparse
import functools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from transformers import AutoTokenizer

from agents.base import ScoredEdit
from agents.policy import Completion
from agents.rest_em import best
from benchmarks.measurements.recorded import (
    EVAL,
    FORMATS,
    JOINT,
    RUBRIC,
    SELECTION,
    TRAIN,
    Article,
    Edit,
    Recorded,
    Run,
    answers_of,
    read,
)
from benchmarks.reports.intervals import CONFIDENCE, RESAMPLES, paired_difference
from benchmarks.settings import tree_of
from seal_env.checks import check_choice
from seal_env.edits import EditSettings, get_format, parse
from seal_env.evaluation import answered
from seal_env.evaluation.graders import GRADERS, Answered, Score, contains, get_grader, grade
from seal_env.evaluation.scoring import TaskResult
from seal_env.files import atomic_write
from seal_env.rewards import edit_text
from seal_env.rewards.coverage import Coverage
from seal_env.tasks import Document, Task, load_tasks

EXAMPLES = """examples:
  seal-bench replay ../shared/data/seal_runs
  seal-bench replay ../shared/data/seal_runs --grader exact,contains --out replay.md
  seal-bench replay runs --grader mine:judge --grader-options strict=true --squad squad_val.json
"""

# What the paper says (arXiv 2506.10943v2), in percent, and what was said of its published runs.
PUBLISHED = {
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
PUBLISHED_SEQUENCES = "8.7 / 7 / 11 / 67"
PUBLISHED_TOKENS = "51 / 32 / 187"
ROUNDED = 1e-4  # the authors round the accuracy of every adapter run to four digits
SHUFFLE_SEED = 42  # of the evaluation passages, and of the joint update's questions
TOKENIZER = "Qwen/Qwen2.5-7B"

Array = NDArray[np.float64]
Verdicts = Mapping[Answered, Score | None]

_KEY = (
    "published: in the paper (arXiv 2506.10943), or said of its runs; recorded: the authors' own summary of a run, or, beside "
    "a grader's figure, GPT-4.1's; ours: computed from edits, answers and verdicts. Accuracies are in percent and means over "
    "passages; ± one standard error over passages, [95 % bootstrap interval over passages]"
)


@dataclass(frozen=True)
class Figure:
    """A number as it is printed.

    Attributes:
        form: of the number, as for ``format``.
        error: its standard error.
        interval: its 95 % interval.
        of: what a count is out of.
    """

    value: float
    form: str = ".1f"
    error: float | None = None
    interval: tuple[float, float] | None = None
    of: int | None = None

    def __str__(self) -> str:
        text = self.number
        if self.error is not None:
            text += f" ± {self.error:{self.form}}"
        if self.interval is not None:
            text += f" [{self.interval[0]:{self.form}}, {self.interval[1]:{self.form}}]"
        return text if self.of is None else f"{text} of {self.of}"

    @property
    def number(self) -> str:
        """Without what is around it."""
        return f"{self.value:{self.form}}"


Cell = Figure | str | None


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        comparable: whether the three figures are to be the same; where they are not, :attr:`remark` says so.
    """

    what: str
    ours: Cell
    recorded: Cell = None
    published: Cell = None
    note: str = ""
    comparable: bool = True

    @property
    def remark(self) -> str:
        """The note, after the names of the columns that ours differs from as printed."""
        columns = (("published", self.published), ("recorded", self.recorded)) if self.comparable else ()
        differs = [f"DIFFERS from {name}" for name, cell in columns if cell is not None and _plain(cell) != _plain(self.ours)]
        return "; ".join([*differs, *([self.note] if self.note else [])])

    @property
    def cells(self) -> list[str]:
        shown = ["" if cell is None else str(cell) for cell in (self.published, self.recorded, self.ours)]
        return [self.what, *shown, self.remark]


@dataclass(frozen=True)
class Section:
    """A table with its title; ``lines`` stand below it as they are, ``notes`` below these."""

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    def __getitem__(self, what: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.what == what)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUNS", type=Path, help="folder with the authors' train, eval, selection, continual")
    parser.add_argument(
        "--grader",
        metavar="NAMES",
        default="",
        help="graders in place of GPT-4.1, with commas: exact, package.module:name, ...",
    )
    parser.add_argument(
        "--grader-options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a keyword of the grader, as YAML; with several, NAME.KEY=VALUE for one of them",
    )
    parser.add_argument("--squad", type=Path, metavar="FILE", help="squad_val.json; by default RUNS/../squad/squad_val.json")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables as Markdown")


def run(arguments: argparse.Namespace) -> list[Section]:
    """Read, compute, print the tables and write them where asked to.

    Raises:
        ValueError: an argument is unusable, the folder holds none of the runs, or a file is broken; it is named.
    """
    graders = make_graders(arguments.grader, arguments.grader_options)
    recorded = read(arguments.runs)
    squad = arguments.squad or arguments.runs / ".." / "squad" / "squad_val.json"
    verdicts = {name: grade(grader, chain(*map(_asked, _gradable(recorded)))) for name, grader in graders.items()}
    sections = [
        section
        for section in (
            evaluation(recorded, verdicts),
            joint(recorded, verdicts),
            training(recorded),
            proxies(recorded),
            selection(recorded),
            sequences(recorded),
            tasks(recorded, squad, given=arguments.squad is not None),
            continual(recorded),
        )
        if section.rows or section.notes
    ]
    notes = [_KEY]
    if recorded.missing:
        notes.append(f"not in {arguments.runs}, rows that need them are left out: {', '.join(recorded.missing)}")
    print(text(sections, notes))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(arguments.out) as partial:
            partial.write_text(markdown(sections, notes), encoding="utf-8")
    return sections


def make_graders(names: str, options: Sequence[str]) -> dict[str, Callable[[Sequence[Answered]], list[Any]]]:
    """Graders by name; an option below a grader's name is for that one alone."""
    tree = tree_of(options, "--grader-options", "KEY=VALUE")
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if tree and not wanted:
        raise ValueError(f"--grader-options {' '.join(options)}: say which --grader")
    own = {name: tree.pop(name) for name in {*GRADERS, *wanted} if isinstance(tree.get(name), dict)}
    for name in own:
        check_choice("--grader-options NAME.KEY=VALUE: NAME", name, wanted)
    return {name: get_grader(name, {**tree, **own.get(name, {})}) for name in wanted}


# Grading


def regraded(run: Run, verdicts: Verdicts) -> Run:
    """``run`` with these verdicts in place of the recorded ones."""

    def again(result: TaskResult) -> TaskResult:
        before, after = result.answers_before, result.answers
        correct_before, correct = (
            tuple(verdicts[one] for one in answered(result.task, answers)) for answers in (before, after)
        )
        return TaskResult.from_verdicts(result.task, before, after, correct_before, correct)

    def edited(edit: Edit) -> Edit:
        return replace(edit, results=tuple(map(again, edit.results)))

    return replace(run, articles=tuple(replace(one, edits=tuple(map(edited, one.edits))) for one in run.articles))


def _gradable(recorded: Recorded) -> Iterator[Sequence[tuple[Answered, bool]]]:
    """What a grader is asked of, with GPT-4.1's verdicts."""
    for name in EVAL:
        if name in recorded.runs:
            yield _judged(recorded.runs[name], before=True) + _judged(recorded.runs[name])
    yield joint_items(recorded)


def _asked(judged: Sequence[tuple[Answered, bool]]) -> list[Answered]:
    return [item for item, _ in judged]


def _judged(run: Run, before: bool = False) -> list[tuple[Answered, bool]]:
    return [pair for result in run.results for pair in answers_of(result, before)]


def joint_items(recorded: Recorded) -> list[tuple[Answered, bool]]:
    """The joint update's answers with GPT-4.1's verdicts and their questions, which its file leaves out.

    They are the evaluation's, shuffled, as many as were answered: the answers show it (:func:`joint`).
    """
    run, update = recorded.runs.get("eval/iter2.json"), recorded.joint
    if run is None or update is None:
        return []
    questions = [question for article in run.articles for question in article.task.questions]
    random.Random(SHUFFLE_SEED).shuffle(questions)
    if len(questions) < len(update.answers):
        return []
    items = (Answered(one.question, answer, one.answers) for one, answer in zip(questions, update.answers))
    return list(zip(items, update.verdicts))


def agreement(judged: Sequence[tuple[Answered, bool]], verdicts: Verdicts) -> str:
    """How often a grader says what GPT-4.1 said, and to which side it errs; marks count by their distance.

    Answers that it does not grade are counted besides.
    """
    pairs = [(float(mark), right) for item, right in judged if (mark := verdicts[item]) is not None]
    left_out = f"{len(judged) - len(pairs)} of {len(judged)} answers not graded"
    if not pairs:
        return left_out
    over = 100 * float(np.mean([max(0.0, mark - right) for mark, right in pairs]))
    under = 100 * float(np.mean([max(0.0, right - mark) for mark, right in pairs]))
    said = f"agrees {100 - over - under:.1f} %, too kind {over:.1f}, too strict {under:.1f}"
    return said if len(pairs) == len(judged) else f"{said}; {left_out}"


def itself(judged: Iterable[tuple[Answered, bool]]) -> tuple[float, int] | None:
    """How often two verdicts of GPT-4.1 on one answer to one question are the same, and on how many answers it gave several."""
    groups: dict[Answered, list[bool]] = defaultdict(list)
    for item, right in judged:
        groups[item].append(right)
    several = [group for group in groups.values() if len(group) > 1]
    pairs = sum(len(group) * (len(group) - 1) / 2 for group in several)
    differ = sum(sum(group) * (len(group) - sum(group)) for group in several)
    return (1 - differ / pairs, len(several)) if several else None


# The sections


def evaluation(recorded: Recorded, verdicts: Mapping[str, Verdicts]) -> Section:
    """Accuracy on the evaluation passages, by the recorded verdicts and by graders."""
    runs = {name: recorded.runs[name] for name in EVAL if name in recorded.runs}
    rows = [
        Row(
            _label(name),
            _mean(_after(run)),
            _overall(run, "adapter_mean_accuracy", "adapter_std_of_article_means"),
            Figure(PUBLISHED[name]),
        )
        for name, run in runs.items()
    ]
    for name, run in runs.items():
        before = [article.edits[0].before for article in run.articles]
        summary = _overall(run, "baseline_mean_accuracy", "baseline_std_of_article_means")
        whose = "the model after two rounds" if name == "eval/iter2.json" else "the base model"
        published = Figure(PUBLISHED["before"]) if name == "eval/base.json" else None
        rows.append(Row(f"{_stem(name)}: before the update", _mean(before), summary, published, whose))
    for worse, better in (("eval/naive.json", "eval/base.json"), ("eval/base.json", "eval/iter2.json")):
        if worse in runs and better in runs and _documents(runs[worse]) == _documents(runs[better]):
            found = paired_difference(_after(runs[better]), _after(runs[worse]))
            interval = None if found.low is None or found.high is None else (100 * found.low, 100 * found.high)
            gain = Figure(100 * found.value, "+.1f", interval=interval)
            published = Figure(PUBLISHED[better] - PUBLISHED[worse], "+.1f")
            rows.append(Row(f"{_stem(better)} minus {_stem(worse)}", gain, None, published, "same passages"))
    for grader, marks in verdicts.items():
        rows += _by_grader(runs, grader, marks)
    judged = [pair for run in runs.values() for pair in _judged(run, before=True) + _judged(run)]
    if found_itself := itself(judged):
        share, count = found_itself
        note = f"{count} answers that it judged more than once, before or after an update"
        rows.append(Row("GPT-4.1 agrees with itself, %", Figure(100 * share), note=note))
    notes = ("agrees: with GPT-4.1 on the answers after the update, right or wrong, percent of answers",) if verdicts else ()
    return Section("Evaluation, one self-edit a passage: accuracy after the update", tuple(rows), notes)


def _by_grader(runs: Mapping[str, Run], grader: str, marks: Verdicts) -> Iterator[Row]:
    again = {name: regraded(run, marks) for name, run in runs.items()}
    for name, run in again.items():
        note = agreement(_judged(runs[name]), marks)
        ours = _mean(scores) if (scores := _after(run)) else None
        yield Row(f"{_stem(name)}, by {grader}", ours, _mean(_after(runs[name])), None, note, comparable=False)
    if len(runs) > 1 and all(map(_after, again.values())):
        yield Row(f"order, by {grader}", _order(again), _order(runs))


def _order(runs: Mapping[str, Run]) -> str:
    return " < ".join(_stem(name) for name in sorted(runs, key=lambda name: np.mean(_after(runs[name]))))


def joint(recorded: Recorded, verdicts: Mapping[str, Verdicts]) -> Section:
    """One update on the edits of all passages."""
    title = "Joint update on the edits of all passages: accuracy after it"
    if recorded.joint is None:
        return Section(title, ())
    right = 100 * float(np.mean(recorded.joint.verdicts))
    count = len(recorded.joint.verdicts)
    error = (right * (100 - right) / count) ** 0.5
    name = Path(JOINT).stem
    rows = [
        Row(
            name,
            Figure(right, error=error),
            Figure(100 * recorded.joint.accuracy),
            Figure(PUBLISHED[JOINT]),
            f"{count} questions, the error is over these",
        )
    ]
    items = joint_items(recorded)
    if not items:
        return Section(title, tuple(rows), (f"{JOINT} has no questions and eval/iter2.json is needed for them: no graders",))
    held = [contains(item.prediction, item.answers) for item, _ in items]
    other = [contains(item.prediction, of.answers) for (item, _), (of, _) in zip(items, items[1:] + items[:1])]
    rows.append(
        Row(
            "answers that hold the gold answer",
            Figure(sum(held), "d", of=len(held)),
            note=f"questions are not recorded: the evaluation's, shuffled with {SHUFFLE_SEED} (off by one place: {sum(other)})",
        )
    )
    for grader, marks in verdicts.items():
        graded = [float(mark) for item, _ in items if (mark := marks[item]) is not None]
        score = Figure(100 * float(np.mean(graded))) if graded else None
        rows.append(Row(f"{name}, by {grader}", score, Figure(right), None, agreement(items, marks), comparable=False))
    return Section(title, tuple(rows))


def training(recorded: Recorded) -> Section:
    """The first round of ReST-EM: what its rewards are and what they are worth."""
    rows = [row for name in TRAIN if name in recorded.runs for row in _round(recorded.runs[name], TRAIN[name])]
    if RUBRIC in recorded.runs:
        found = recorded.runs[RUBRIC]
        scores = _table(found, lambda edit: float(edit.rubric or 0))
        mean = _overall(found, "mean_proxy_score", scale=1)
        rows.append(Row("proxy: the rubric's score", _mean(scores.mean(-1), scale=1, form=".2f"), mean, comparable=False))
        summed = sum(edit.rubric == sum(edit.criteria) for edit in found.edits)
        rows.append(Row("proxy: scores that are the sum of their marks", Figure(summed, "d", of=len(found.edits))))
    notes = (
        "reliability: share of the variance of the reward, within passages, that is the edits' and not the adapter runs' "
        "(one-way ANOVA, 1 - MS within edits / MS between edits of a passage)",
        "worth: chosen by all adapter runs but one, asked in that one; shrunk: mean + reliability x (best of k - mean)",
    )
    return Section("Training, first round: accuracy of the edits that were sampled", tuple(rows), notes if rows else ())


def _round(run: Run, name: str) -> Iterator[Row]:
    scores = np.array([[edit.scores for edit in article.edits] for article in run.articles])
    rewards, recorded = scores.mean(-1), _table(run, lambda edit: edit.score)
    before = _table(run, lambda edit: edit.before)
    best_of, equal = f"best of {rewards.shape[1]}", abs(rewards - recorded) <= ROUNDED
    yield Row(f"{name}: before the update", _mean(before.mean(-1)), _overall(run, "baseline_mean_accuracy"))
    yield Row(f"{name}: after it", _mean(rewards.mean(-1)), _overall(run, "adapter_mean_accuracy"))
    count = Figure(equal.size, "d", of=equal.size)
    yield Row(f"{name}: rewards as recorded", Figure(int(equal.sum()), "d", of=equal.size), count, note="to four digits")
    yield Row(f"{name}: {best_of}, as scored", _mean(rewards.max(-1)), Figure(100 * recorded.max(-1).mean()))
    if scores.shape[2] > 1 and scores.shape[1] > 1:
        known = over_passages(reliability, scores)
        yield Row(f"{name}: {best_of}, worth", _mean(_honest(scores)))
        shrunk = rewards.mean() + max(0.0, known.value) * (rewards.max(-1).mean() - rewards.mean())
        yield Row(f"{name}: {best_of}, shrunk", Figure(100 * float(shrunk)))
        yield Row(f"{name}: reliability of a reward", known, None, None, f"mean of {scores.shape[2]} adapter runs")
    gains, recorded_gains = (rewards - before).round(9), _table(run, lambda edit: edit.gain)
    useless, recorded_useless = (
        Figure(int((gain[np.arange(len(gain)), reward.argmax(-1)] <= 0).sum()), "d", of=len(gain))
        for gain, reward in ((gains, rewards.round(9)), (recorded_gains, recorded))
    )
    yield Row(f"{name}: kept edits without gain", useless, recorded_useless)
    held: dict[bool, list[float]] = {True: [], False: []}
    for edit in run.edits:
        for result in edit.results:
            for question, right in zip(result.task.questions, result.correct):
                if right is not None:
                    held[contains(edit.text, question.answers)].append(float(right))
    for there, word in ((True, "in the edit"), (False, "not in the edit")):
        if held[there]:
            share = 100 * len(held[there]) / sum(map(len, held.values()))
            yield Row(
                f"{name}: gold answer {word}", Figure(100 * float(np.mean(held[there]))), note=f"{share:.0f} % of questions"
            )


def proxies(recorded: Recorded) -> Section:
    """Whether what a proxy says of an edit says anything of its real reward."""
    rows = [
        *_rubric(recorded),
        *(row for name in TRAIN if name in recorded.runs for row in _coverage(recorded.runs[name], name)),
    ]
    notes = ("the rubric is GPT-4.1's, of the edits of rank_iter0; coverage is reward='proxy' by default and asks no model",)
    return Section(
        "Rubric and coverage, proxy rewards, against the real reward of the same edits", tuple(rows), notes if rows else ()
    )


def _coverage(run: Run, file: str) -> Iterator[Row]:
    settings, proxy = EditSettings(TRAIN[file]), Coverage()
    rewards = _table(run, lambda edit: edit.reward).round(9)
    marks = [
        [one.reward for one in proxy([edit_text(parse(edit.text, of.document, settings, 0), of.document) for edit in of.edits])]
        for of in run.articles
    ]
    scores, what = np.array(marks), f"coverage (local proxy), {_stem(file)}"
    yield Row(f"{what}: Pearson's r", over_passages(pearson, scores, rewards), note="all edits")
    yield Row(f"{what}: Spearman's rho", over_passages(spearman, scores, rewards), note="all edits")
    yield Row(f"{what}: r within passages", over_passages(within, scores, rewards))


def _rubric(recorded: Recorded) -> list[Row]:
    real, proxy = recorded.runs.get("train/rank_iter0.json"), recorded.runs.get(RUBRIC)
    if real is None or proxy is None:
        return []
    same = sum(_edits_of(one) == _edits_of(other) for one, other in zip(real.articles, proxy.articles))
    rows = [Row("passages with the same edits", Figure(same, "d", of=len(real.articles)))]
    if same < max(len(real.articles), len(proxy.articles)):
        return [replace(rows[0], note="nothing to compare")]
    rewards = _table(real, lambda edit: edit.reward).round(9)
    scores = _table(proxy, lambda edit: float(edit.rubric or 0))
    rows += [
        Row("Pearson's r, all edits", over_passages(pearson, scores, rewards)),
        Row("Spearman's rho, all edits", over_passages(spearman, scores, rewards)),
        Row("Pearson's r within passages", over_passages(within, scores, rewards), note="what a choice among edits rests on"),
    ]
    runs = np.array([[edit.scores for edit in article.edits] for article in real.articles])
    if runs.shape[2] > 1 and runs.shape[1] > 1:
        note = "root of the reward's reliability: what a perfect rubric would come to"
        ceiling = over_passages(lambda scores: np.maximum(0, reliability(scores)) ** 0.5, runs)
        rows.append(Row("the most that can be had within passages", ceiling, note=note))
    is_best = (rewards == rewards.max(-1, keepdims=True)).astype(float)
    hits = over_passages(lambda s, r: _chosen(s, r).mean(-1), scores, is_best, scale=100, form=".0f")
    note = f"by chance {100 * is_best.mean():.0f}; means over equals"
    rows.append(Row("the rubric's best is the real best, %", hits, note=note))
    lift = over_passages(lambda s, r: (_chosen(s, r) - r.mean(-1)).mean(-1), scores, rewards, scale=100, form="+.1f")
    note = f"best of {rewards.shape[1]} as scored {100 * (rewards.max(-1) - rewards.mean(-1)).mean():+.1f}"
    rows.append(Row("the rubric's choice above the passage's mean", lift, note=note))
    return rows


def selection(recorded: Recorded) -> Section:
    """The rows that the authors' ReST-EM kept, by ours."""
    rows = []
    for file, kept in recorded.kept.items():
        found = recorded.runs.get(SELECTION[file])
        if found is None:
            continue
        prompts = [get_format(TRAIN[SELECTION[file]]).prompt(article.document) for article in found.articles]
        by_record = _best(found, prompts, lambda edit: edit.score)
        by_verdicts = _best(found, prompts, lambda edit: edit.reward)
        rewards = {(prompt, edit.text): edit.reward for prompt, one in zip(prompts, found.articles) for edit in one.edits}
        others = [(mine, theirs) for mine, theirs in zip(by_verdicts, by_record) if mine != theirs]
        tied = sum(abs(rewards[mine] - rewards[theirs]) < 1e-9 for mine, theirs in others)
        for what, ours, note in (
            ("recorded scores", by_record, "prompt and edit"),
            (
                "verdicts",
                by_verdicts,
                f"{tied} of the {len(others)} others have equal scores, told apart by rounding" if others else "",
            ),
        ):
            shared = Figure((Counter(ours) & Counter(kept)).total(), "d", of=len(kept))
            rows.append(Row(f"{_stem(file)}: rows by {what}", shared, Figure(len(kept), "d", of=len(kept)), None, note))
        same = (Counter(prompts) & Counter(prompt for prompt, _ in kept)).total()
        rows.append(Row(f"{_stem(file)}: prompts", Figure(same, "d", of=len(kept)), Figure(len(kept), "d", of=len(kept))))
    return Section("Selection: rows of the authors' ReST-EM that ours keeps from the same runs", tuple(rows))


def _best(run: Run, prompts: Sequence[str], reward: Callable[[Edit], float]) -> list[tuple[str, str]]:
    """Prompt and edit of the rows that ReST-EM keeps."""
    scored = [
        ScoredEdit(i, prompt, Completion((), (), edit.text, "eos"), reward(edit), {})
        for i, (prompt, article) in enumerate(zip(prompts, run.articles))
        for edit in article.edits
    ]
    return [(one.instruction, one.completion.text) for one in best(scored, 0.0)]


def sequences(recorded: Recorded) -> Section:
    """How edits are cut into training sequences."""
    rows, notes = [], []
    for file, name in FORMATS.items():
        if file not in recorded.runs or file == RUBRIC:
            continue
        cut = _cut(recorded.runs[file], EditSettings(name))
        published = PUBLISHED_SEQUENCES if file == "train/rank_iter0.json" else None
        ours = _spread([len(one) for one in cut], 0.9)
        rows.append(Row(f"{_stem(file)}: mean / median / p90 / max", ours, None, published, f"{len(cut)} edits"))
    if "train/rank_iter0.json" in recorded.runs:
        if tokenizer := _tokenizer():
            texts = [text for one in _cut(recorded.runs["train/rank_iter0.json"], EditSettings()) for text in one]
            lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
            ours = _spread(lengths, 0.95, mean=".0f", most=False)
            rows.append(Row("rank_iter0: tokens a sequence, mean / median / p95", ours, None, PUBLISHED_TOKENS))
        else:
            notes.append(f"tokens a sequence (published {PUBLISHED_TOKENS}) are left out: {TOKENIZER}'s tokenizer is not here")
    iter2, update = recorded.runs.get("eval/iter2.json"), recorded.joint
    if iter2 and update:
        # The passage is learnt once, not once an edit.
        total = sum(update.edits * (len(one) - 1) + 1 for one in _cut(iter2, update.settings))
        note = f"one of {update.edits} edits a passage is recorded; taken to be cut like it"
        rows.append(Row(f"{Path(JOINT).stem}: all sequences", Figure(total, "d"), Figure(update.sequences, "d"), None, note))
    return Section("Sequences that an edit is cut into, the passage among them", tuple(rows), tuple(notes))


def tasks(recorded: Recorded, squad: Path, given: bool = False) -> Section:
    """The evaluation's passages and questions from SQuAD, and every prompt from its passage."""
    rows, notes = [], []
    evaluated = {name: recorded.runs[name] for name in EVAL if name in recorded.runs}
    if evaluated and (given or squad.is_file()):
        count = max(len(run.articles) for run in evaluated.values())
        loaded = list(load_tasks(squad, seed=SHUFFLE_SEED, limit=count))
        for name, run in evaluated.items():
            theirs = [article.task for article in run.articles]
            same = sum((one.title, one.context) == (other.title, other.context) for one, other in zip(loaded, theirs))
            rows.append(Row(f"{_stem(name)}: passages", Figure(same, "d", of=len(theirs)), note="in their order"))
            pairs = ((_questions(one), _questions(other)) for one, other in zip(loaded, theirs))
            same = sum(one == other for mine, recorded_ones in pairs for one, other in zip(mine, recorded_ones))
            rows.append(Row(f"{_stem(name)}: questions", Figure(same, "d", of=sum(len(one.questions) for one in theirs))))
    elif evaluated:
        notes.append(f"passages and questions are left out: no {squad} (--squad FILE)")
    for file, name in FORMATS.items():
        if found := recorded.runs.get(file):
            same = sum(get_format(name).prompt(article.document) == article.prompt for article in found.articles)
            rows.append(Row(f"{_stem(file)}: prompts", Figure(same, "d", of=len(found.articles)), note=name))
    title = f"Tasks and prompts, rebuilt: SQuAD shuffled with {SHUFFLE_SEED}, and the edit formats"
    return Section(title, tuple(rows), tuple(notes))


def continual(recorded: Recorded) -> Section:
    """Forgetting over several updates in a row."""
    title = "Continual self-edits: accuracy on earlier passages after each update"
    if recorded.continual is None:
        return Section(title, ())
    matrix = 100 * recorded.continual["matrix"]
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
        shown = row if i == 0 else row[:i]
        lines.append(f"{i or 'none':>6}  {'':12}" + "".join(f"{cell:6.1f}" for cell in shown))
    return Section(title, rows, (f"means over {recorded.continual['sequences']} sequences of passages",), tuple(lines))


# Statistics over passages, (..., passages, edits[, adapter runs])


def over_passages(statistic: Callable[..., Any], *values: Array, scale: float = 1, form: str = ".2f") -> Figure:
    """``statistic`` of ``values``, whose first axis is the passages, with a bootstrap interval over these."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = scale * float(statistic(*values))
        if len(values[0]) < 2:
            return Figure(value, form)
        found = stats.bootstrap(
            (np.arange(len(values[0])),),
            lambda index, axis: statistic(*(one[index] for one in values)),
            n_resamples=RESAMPLES,
            batch=1_000,
            vectorized=True,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    interval = (scale * float(found.low), scale * float(found.high))
    return Figure(value, form, interval=interval if np.isfinite(interval).all() else None)


def reliability(scores: Array) -> Any:
    """Of the mean over adapter runs, among the edits of a passage: 1 - MS within edits / MS between edits."""
    *_, passages, edits, runs = scores.shape
    means = scores.mean(-1)
    between = runs * ((means - means.mean(-1, keepdims=True)) ** 2).sum((-1, -2)) / (passages * (edits - 1))
    inside = ((scores - means[..., None]) ** 2).sum((-1, -2, -3)) / (passages * edits * (runs - 1))
    return 1 - inside / between


def pearson(one: Array, other: Array) -> Any:
    """Over all edits."""
    one, other = (value.reshape(*value.shape[:-2], -1) for value in (one, other))
    one, other = (value - value.mean(-1, keepdims=True) for value in (one, other))
    return (one * other).sum(-1) / ((one**2).sum(-1) * (other**2).sum(-1)) ** 0.5


def spearman(one: Array, other: Array) -> Any:
    """Over all edits."""
    ranks = (stats.rankdata(value.reshape(*value.shape[:-2], -1), axis=-1).reshape(value.shape) for value in (one, other))
    return pearson(*ranks)


def within(one: Array, other: Array) -> Any:
    """Pearson's, of what is left when every passage's mean is taken away."""
    return pearson(*(value - value.mean(-1, keepdims=True) for value in (one, other)))


def _chosen(scores: Array, values: Array) -> Array:
    """What ``values`` says of each passage's edit with the best score; the mean over equals."""
    leads = scores == scores.max(-1, keepdims=True)
    return (values * leads).sum(-1) / leads.sum(-1)


def _honest(scores: Array) -> Array:
    """Each passage's best edit, chosen by all adapter runs but one and asked in that one: the mean over which one."""
    runs = scores.shape[-1]
    left_out = [_chosen(np.delete(scores, run, -1).mean(-1).round(9), scores[..., run]) for run in range(runs)]
    return np.mean(left_out, axis=0)


# Small things


def _table(run: Run, of: Callable[[Edit], float]) -> Array:
    """(passages, edits)"""
    return np.array([[of(edit) for edit in article.edits] for article in run.articles])


def _after(run: Run) -> list[float]:
    """Mean reward of the edits of each article that any answer about is graded."""
    graded = ([edit.reward for edit in article.edits if edit.graded] for article in run.articles)
    return [float(np.mean(rewards)) for rewards in graded if rewards]


def _mean(values: Sequence[float] | Array, scale: float = 100, form: str = ".1f") -> Figure:
    error = scale * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    return Figure(scale * float(np.mean(values)), form, error)


def _overall(run: Run, mean: str, deviation: str = "", scale: float = 100) -> Figure | None:
    """A mean of the recorded summary, with its standard error where it has the passages' standard deviation."""
    if mean not in run.overall:
        return None
    spread = run.overall.get(deviation)
    return Figure(scale * run.overall[mean], error=None if spread is None else scale * spread / len(run.articles) ** 0.5)


def _documents(run: Run) -> list[Document]:
    return [article.document for article in run.articles]


def _edits_of(article: Article) -> tuple[str, list[str]]:
    return article.document.context, [edit.text for edit in article.edits]


def _questions(task: Task) -> list[tuple[str, str]]:
    return [(one.question, one.answers[0]) for one in task.questions]


def _cut(run: Run, settings: EditSettings) -> list[tuple[str, ...]]:
    return [parse(edit.text, article.task, settings, seed=0).sequences for article in run.articles for edit in article.edits]


def _spread(counts: Sequence[int], quantile: float, mean: str = ".1f", most: bool = True) -> str:
    """Mean, median, a quantile and, with ``most``, the largest."""
    high = np.quantile(counts, quantile, method="higher")
    return f"{np.mean(counts):{mean}} / {np.median(counts):g} / {high}" + (f" / {max(counts)}" if most else "")


@functools.cache
def _tokenizer() -> Any:
    """The paper's tokenizer, from the cache alone; None where it is not there."""
    try:
        return AutoTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
    except (OSError, ValueError):
        return None


def _label(name: str) -> str:
    return f"{_stem(name)}: {EVAL[name]}"


def _stem(name: str) -> str:
    return Path(name).stem


def _plain(cell: Cell) -> str:
    return cell.number if isinstance(cell, Figure) else str(cell)


# Output

_HEAD = ("", "published", "recorded", "ours", "")


def text(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """For a terminal."""
    return "\n\n".join([*map(_section_text, sections), "\n".join(f"({note})" for note in notes)])


def _section_text(section: Section) -> str:
    rows = [list(_HEAD), *(row.cells for row in section.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [section.title, "-" * len(section.title)]
    for what, *figures, remark in rows:
        aligned = (cell.rjust(width) for cell, width in zip(figures, widths[1:]))
        lines.append("  ".join([what.ljust(widths[0]), *aligned, remark]).rstrip())
    lines += ["", *(f"  {line}" for line in section.lines), ""] if section.lines else []
    return "\n".join([*lines, *(f"({note})" for note in section.notes)])


def markdown(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """The same as Markdown."""
    blocks = ["# SEAL's recorded runs, replayed"]
    for section in sections:
        lines = [_HEAD, ("---", "---:", "---:", "---:", "---"), *(tuple(map(_escaped, row.cells)) for row in section.rows)]
        blocks += [f"## {section.title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        blocks += ["\n".join(["```", *section.lines, "```"])] if section.lines else []
        blocks += ["\n".join(f"- {_escaped(note)}" for note in section.notes)] if section.notes else []
    return "\n\n".join([*blocks, "\n".join(f"- {_escaped(note)}" for note in notes)]) + "\n"


def _escaped(text: str) -> str:
    for character in "\\|`*<>&":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
