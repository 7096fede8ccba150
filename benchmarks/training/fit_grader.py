"""Fit the `calibrated` grader: ``python -m benchmarks.training.fit_grader --runs SEAL_RUNS --out calibrated.json``.

Reads the runs that SEAL's authors recorded, with GPT-4.1's verdict on every answer. The trees are fitted to the runs in
``train/``. The runs in ``eval/`` are about other articles and no tree is fitted to them, so the agreement that is printed last
holds for the file that is written. The agreement that is printed first is cross-fitted: every verdict is predicted by trees
that were fitted without its passage, or without its article. One number is set on all runs: the threshold, at which as many
answers are right as the judge says, by the scores that are cross-fitted by article. The same runs give the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.replay.recordings import answers_of, read
from seal_env.evaluation.graders import Answered
from seal_env.evaluation.graders.calibrated import FEATURES, Matrix, Trees, features, reply, scores
from seal_env.files import atomic_write

EVALUATED = ("eval/naive", "eval/base", "eval/iter2")
FOLDS = 10

# Features with a known sign: more of them can only help (1) or harm (-1), and no split may say the opposite by chance.
MONOTONE = {
    "recall": 1, "recall_alternative": 1, "recall_specific": 1, "recall_hits": 1, "recall_hits_first": 1, "recall_hits_all": 1,
    "recall_least": 1, "letters": 1, "letters_first": 1, "longest_piece": 1, "longest_run": 1, "contained": 1,
    "missing_names": -1, "missing_numbers": -1, "missing_last": -1, "precision": 1, "precision_first": 1, "rank": -1,
    "new_names_first": -1,
}  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """A recorded verdict.

    Attributes:
        run: name of the file, such as ``eval/base``.
        side: ``adapter`` after the update, ``baseline`` before.
        article: title and text of the passage.
        answered: question, accepted answers and the student's answer.
        right: the verdict.
    """

    run: str
    side: str
    article: tuple[str, str]
    answered: Answered
    right: bool


@dataclass(frozen=True)
class Judged:
    """A unique answer.

    Attributes:
        article: title and text of the passage.
        answered: question, accepted answers and the student's answer.
        share: share of its verdicts that are right.
        evaluated: whether it is from ``eval/``.
    """

    article: tuple[str, str]
    answered: Answered
    share: float
    evaluated: bool


@dataclass(frozen=True)
class FitConfig:
    """Everything that the result depends on, besides the code and the runs.

    Attributes:
        trees: number of trees.
        depth: of a tree.
        learning_rate: shrinkage of a tree's leaves.
        columns: share of the features that a tree may split.
        ridge: added to the curvature of a leaf.
        bins: maximum number of split points per feature.
        seed: of the choice of features.
    """

    trees: int = 800
    depth: int = 3
    learning_rate: float = 0.03
    columns: float = 0.2
    ridge: float = 4.0
    bins: int = 48
    seed: int = 0


def recorded(folder: Path) -> list[Recorded]:
    """Every verdict of the runs in ``train/`` and ``eval/`` that name their articles."""
    return [
        Recorded(name.removesuffix(".json"), side, (article.document.title, article.document.context), item, right)
        for name, run in sorted(read(folder).runs.items())
        for article in run.articles
        for edit in article.edits
        for result in edit.results
        for both in zip(answers_of(result, before=True), answers_of(result))
        for side, (item, right) in zip(("baseline", "adapter"), both)
    ]


def judged(verdicts: Sequence[Recorded]) -> list[Judged]:
    """The unique answers, without those on which the judge is evenly split."""
    groups = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.answered].append(verdict)
    shares = {answered: float(np.mean([verdict.right for verdict in group])) for answered, group in groups.items()}
    return [
        Judged(group[0].article, answered, shares[answered], group[0].run.startswith("eval/"))
        for answered, group in groups.items()
        if shares[answered] != 0.5
    ]


@dataclass(frozen=True)
class Table:
    """Answers and their features.

    Attributes:
        items: the answers.
        rows: ``(items, features)``; zeros where a guard rejects the answer.
        kept: ``(items,)`` whether no guard rejects the answer; others are left out of the fit.
        right: ``(items,)`` whether most verdicts are right.
        weights: ``(items,)`` of the loss.
    """

    items: list[Judged]
    rows: Matrix
    kept: NDArray[np.bool_]
    right: NDArray[np.bool_]
    weights: Matrix

    def fit(self, chosen: NDArray[np.bool_], config: FitConfig) -> Trees:
        """Trees fitted to the ``chosen`` rows."""
        used = chosen & self.kept
        return fit_trees(self.rows[used], np.array([item.share for item in self.items])[used], self.weights[used], config)

    def cross_fitted(self, groups: Sequence[object], config: FitConfig) -> Matrix:
        """``(items,)`` scores by trees that were fitted without the item's fold; all items of a group are in one fold."""
        folds = np.array([int(hashlib.sha256(repr(group).encode()).hexdigest(), 16) % FOLDS for group in groups])
        predicted = np.zeros(len(self.items))
        for fold in range(FOLDS):
            out = folds == fold
            predicted[out] = self.fit(~out, config).score(self.rows[out])
        return np.where(self.kept, predicted, 0.0)


def tabulate(items: list[Judged]) -> Table:
    """The features of answers."""
    rows, kept = np.zeros((len(items), len(FEATURES))), np.zeros(len(items), bool)
    for i, item in enumerate(items):
        (gold,) = item.answered.answers
        text = reply(item.answered.question, gold, item.answered.prediction)
        if text is not None:
            rows[i], kept[i] = features(item.answered.question, gold, text), True
    # Twenty answers to one question teach less than answers to twenty questions.
    counts = Counter(item.answered.question for item in items)
    weights = np.array([counts[item.answered.question] ** -0.5 for item in items])
    return Table(items, rows, kept, np.array([item.share > 0.5 for item in items]), weights / weights.mean())


def fit_trees(rows: Matrix, shares: Matrix, weights: Matrix, config: FitConfig) -> Trees:
    """Gradient boosting of the logistic loss; a split must agree with ``MONOTONE`` on average over its level."""
    rng = np.random.default_rng(config.seed)
    edges = [_edges(column, config.bins) for column in rows.T]
    codes = np.stack([np.searchsorted(edge, column, side="left") for edge, column in zip(edges, rows.T)], 1)
    signs = np.array([MONOTONE.get(name, 0) for name in FEATURES])
    rate = float(np.average(shares, weights=weights))
    intercept = float(np.log(rate / (1 - rate)))
    total = np.full(len(rows), intercept)
    columns, splits, leaves = [], [], []
    for _ in range(config.trees):
        chance = 1 / (1 + np.exp(-total))
        gradient, curvature = weights * (shares - chance), weights * chance * (1 - chance)
        allowed = np.sort(rng.choice(rows.shape[1], max(1, round(config.columns * rows.shape[1])), replace=False))
        node = np.zeros(len(rows), np.int64)
        path: list[tuple[int, int]] = []
        for level in range(config.depth):
            column, code = _best_split(codes, allowed, node, 2**level, gradient, curvature, signs, config)
            path.append((column, code))
            node = 2 * node + (codes[:, column] > code)
        up = np.bincount(node, gradient, 2**config.depth) / (np.bincount(node, curvature, 2**config.depth) + config.ridge)
        values = np.round(config.learning_rate * up, 5)
        total += values[node]
        columns.append([column for column, _ in path])
        splits.append([float(edges[column][code]) for column, code in path])
        leaves.append(values)
    return Trees(np.array(columns), np.array(splits), np.array(leaves), intercept)


def _edges(column: Matrix, bins: int) -> Matrix:
    """The split points of a feature: between neighbouring values, at most ``bins`` of them."""
    values = np.unique(column)
    if len(values) > bins + 1:
        values = np.unique(np.quantile(column, np.linspace(0, 1, bins + 2), method="nearest"))
    middles = np.round((values[1:] + values[:-1]) / 2, 5)
    return np.unique(middles) if len(middles) else np.array([np.inf])


def _best_split(
    codes: NDArray[np.int64],
    allowed: NDArray[np.int64],
    node: NDArray[np.int64],
    nodes: int,
    gradient: Matrix,
    curvature: Matrix,
    signs: NDArray[np.int64],
    config: FitConfig,
) -> tuple[int, int]:
    """The column, and the code above which it is split, that are best for all nodes of a level."""
    bins = config.bins + 2
    best = (-np.inf, int(allowed[0]), 0)
    for column in allowed:
        cells = node * bins + codes[:, column]
        up = np.bincount(cells, gradient, nodes * bins).reshape(nodes, bins)
        weight = np.bincount(cells, curvature, nodes * bins).reshape(nodes, bins)
        low, low_weight = up.cumsum(1)[:, :-1], weight.cumsum(1)[:, :-1]
        high, high_weight = up.sum(1, keepdims=True) - low, weight.sum(1, keepdims=True) - low_weight
        gains = (low**2 / (low_weight + config.ridge) + high**2 / (high_weight + config.ridge)).sum(0)
        if signs[column]:  # all nodes of the level together
            step = (high / (high_weight + config.ridge) - low / (low_weight + config.ridge)) * signs[column]
            gains = np.where((step * np.minimum(low_weight, high_weight)).sum(0) >= 0, gains, -np.inf)
        code = int(gains[: codes[:, column].max()].argmax()) if codes[:, column].max() else 0
        if gains[code] > best[0]:
            best = (float(gains[code]), int(column), code)
    return best[1], best[2]


def shifted(trees: Trees, threshold: float) -> Trees:
    """The same trees, with ``threshold`` moved to 0.5."""
    return replace(trees, intercept=round(trees.intercept - float(np.log(threshold / (1 - threshold))), 5))


@dataclass(frozen=True)
class Agreement:
    """Agreement with the judge, as shares of unique answers."""

    agreement: float
    precision: float
    recall: float
    answers: int

    @classmethod
    def of(cls, given: NDArray[np.bool_], right: NDArray[np.bool_]) -> Agreement:
        both = float((given & right).sum())
        return cls(float((given == right).mean()), both / given.sum(), both / right.sum(), len(right))

    def __str__(self) -> str:
        return f"{100 * self.agreement:.2f} % of {self.answers}, precision {self.precision:.3f}, recall {self.recall:.3f}"


def accuracies(verdicts: Sequence[Recorded], given: Mapping[Answered, bool]) -> dict[tuple[str, str], tuple[float, float]]:
    """By run and side: mean accuracy over passages in percent, as recorded and as given, on the answers that have both."""
    groups: dict[tuple[str, str], dict[tuple[str, str], list[tuple[bool, bool]]]] = defaultdict(lambda: defaultdict(list))
    for verdict in verdicts:
        if verdict.answered in given:
            groups[verdict.run, verdict.side][verdict.article].append((verdict.right, given[verdict.answered]))
    return {
        key: tuple(100 * np.mean([np.mean(pairs, 0) for pairs in passages.values()], 0)) for key, passages in groups.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder with the recorded runs, train/ and eval/")
    parser.add_argument("--out", type=Path, required=True, help="file to write the parameters to")
    arguments = parser.parse_args()
    config, verdicts = FitConfig(), recorded(arguments.runs)
    table = tabulate(judged(verdicts))
    evaluated = np.array([item.evaluated for item in table.items])
    answers = [item.answered for item in table.items]
    passages = [item.article for item in table.items]
    print(f"{len(verdicts)} verdicts on {len(answers)} unique answers; {(~table.kept).sum()} rejected by a guard")

    threshold = 0.5
    for name, groups in (("passage", passages), ("article", [title for title, _ in passages])):
        predicted = table.cross_fitted(groups, config)
        threshold = float(np.quantile(predicted, 1 - table.right.mean()))  # as many are right as the judge says
        given = predicted > threshold
        print(f"\ncross-fitted by {name}: {Agreement.of(given, table.right)}")
        print(f"  answers in eval/: {Agreement.of(given[evaluated], table.right[evaluated])}")
        _print_accuracies(verdicts, dict(zip(answers, given.tolist())))

    trees = shifted(table.fit(~evaluated, config), threshold)
    write(trees, arguments.out)
    held_out = [answered for answered, out in zip(answers, evaluated) if out]
    started = time.process_time()
    given = np.array(scores(held_out, trees)) > 0.5
    seconds = time.process_time() - started
    print(f"\nwritten to {arguments.out}, fitted to train/; on eval/: {Agreement.of(given, table.right[evaluated])}")
    _print_accuracies(verdicts, dict(zip(held_out, given.tolist())))
    print(f"  {len(held_out) / seconds:.0f} answers per second of CPU time")


def _print_accuracies(verdicts: Sequence[Recorded], given: Mapping[Answered, bool]) -> None:
    for (run, side), (judge, grader) in accuracies(verdicts, given).items():
        if run in EVALUATED:
            print(f"  {run} {side}: judge {judge:.1f}, grader {grader:.1f} ({grader - judge:+.1f})")


def write(trees: Trees, path: Path) -> None:
    """Write the parameters as JSON, one line per list."""
    parts = {
        "features": list(FEATURES),
        "intercept": trees.intercept,
        "columns": trees.columns.tolist(),
        "splits": trees.splits.tolist(),
        "leaves": trees.leaves.tolist(),
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(part, separators=(',', ':'))}" for name, part in parts.items())
    with atomic_write(path) as partial:
        partial.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
