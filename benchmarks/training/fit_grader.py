"""Fit the `calibrated` grader: ``python -m benchmarks.training.fit_grader --runs ../shared/data/seal_runs --out
calibrated.json``.

Reads the runs that SEAL's authors recorded, with GPT-4.1's verdict on every answer. The trees are fitted to the runs in
``train/``; those in ``eval/`` are about other articles and no tree is fitted to them, so what is printed of them last holds for
the file that is written. What is printed first is cross-fitted: every verdict is predicted by trees that were fitted without
its passage, or without its article. One number is set on all runs: the threshold, so that as many answers are right as the
judge says, by the scores cross-fitted by article. The same runs give the same file.
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

# Features of which more can only help (1) or harm (-1): what a tree may not get backwards by chance.
MONOTONE = {
    "recall": 1, "recall_alternative": 1, "recall_specific": 1, "recall_hits": 1, "recall_hits_first": 1, "recall_hits_all": 1,
    "recall_least": 1, "letters": 1, "letters_first": 1, "longest_piece": 1, "longest_run": 1, "contained": 1,
    "missing_names": -1, "missing_numbers": -1, "missing_last": -1, "precision": 1, "precision_first": 1, "rank": -1,
    "new_names_first": -1,
}  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """One verdict.

    Attributes:
        run: of the file, such as ``eval/base``.
        side: ``adapter`` after the update, ``baseline`` before.
        article: title, and the passage's text.
    """

    run: str
    side: str
    article: tuple[str, str]
    answered: Answered
    right: bool


@dataclass(frozen=True)
class Judged:
    """A different answer.

    Attributes:
        share: of its verdicts that say right.
    """

    article: tuple[str, str]
    answered: Answered
    share: float
    evaluated: bool


@dataclass(frozen=True)
class FitConfig:
    """Everything the result depends on, besides the code and the runs.

    Attributes:
        trees: in the sum.
        depth: questions in a tree.
        learning_rate: share of a tree's step that is taken.
        columns: share of the features that a tree may ask for.
        ridge: added to the curvature of a leaf.
        bins: most values at which a feature is split.
        seed: of the features that a tree may ask for.
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
    """Each different answer once; those on which the judge is evenly split are left out."""
    groups = defaultdict(list)
    for one in verdicts:
        groups[one.answered].append(one)
    shares = {answered: float(np.mean([one.right for one in group])) for answered, group in groups.items()}
    return [
        Judged(group[0].article, answered, shares[answered], group[0].run.startswith("eval/"))
        for answered, group in groups.items()
        if shares[answered] != 0.5
    ]


@dataclass(frozen=True)
class Table:
    """Answers as rows of features; those that a guard refuses have none and stay out of the fit."""

    items: list[Judged]
    rows: Matrix
    kept: NDArray[np.bool_]
    right: NDArray[np.bool_]
    weights: Matrix

    def fit(self, chosen: NDArray[np.bool_], config: FitConfig) -> Trees:
        """Trees fitted to the ``chosen`` rows."""
        used = chosen & self.kept
        return fit_trees(self.rows[used], np.array([one.share for one in self.items])[used], self.weights[used], config)

    def cross_fitted(self, groups: Sequence[object], config: FitConfig) -> Matrix:
        """The score of every row by trees that were fitted without its fold; a group is in one fold."""
        folds = np.array([_fold_of(group) for group in groups])
        found = np.zeros(len(self.items))
        for fold in range(FOLDS):
            out = folds == fold
            found[out] = self.fit(~out, config).score(self.rows[out])
        return np.where(self.kept, found, 0.0)


def tabulate(items: list[Judged]) -> Table:
    rows, kept = np.zeros((len(items), len(FEATURES))), np.zeros(len(items), bool)
    for i, one in enumerate(items):
        (gold,) = one.answered.answers
        said = reply(one.answered.question, gold, one.answered.prediction)
        if said is not None:
            rows[i], kept[i] = features(one.answered.question, gold, said), True
    asked = Counter(one.answered.question for one in items)  # twenty answers to a question teach less than twenty questions
    weights = np.array([asked[one.answered.question] ** -0.5 for one in items])
    return Table(items, rows, kept, np.array([one.share > 0.5 for one in items]), weights / weights.mean())


def _fold_of(group: object) -> int:
    return int(hashlib.sha256(repr(group).encode()).hexdigest(), 16) % FOLDS


def fit_trees(rows: Matrix, shares: Matrix, weights: Matrix, config: FitConfig) -> Trees:
    """Gradient boosting of the logistic loss; a split must agree with ``MONOTONE`` on the whole."""
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
        asked: list[tuple[int, int]] = []
        for level in range(config.depth):
            column, code = _best_split(codes, allowed, node, 2**level, gradient, curvature, signs, config)
            asked.append((column, code))
            node = 2 * node + (codes[:, column] > code)
        up = np.bincount(node, gradient, 2**config.depth) / (np.bincount(node, curvature, 2**config.depth) + config.ridge)
        values = np.round(config.learning_rate * up, 5)
        total += values[node]
        columns.append([column for column, _ in asked])
        splits.append([float(edges[column][code]) for column, code in asked])
        leaves.append(values)
    return Trees(np.array(columns), np.array(splits), np.array(leaves), intercept)


def _edges(column: Matrix, bins: int) -> Matrix:
    """Where a feature may be split: between neighbouring values, at most ``bins`` of them."""
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
    """The column and the code above which a level's nodes are best parted, all by the same."""
    bins = config.bins + 2
    best = (-np.inf, int(allowed[0]), 0)
    for column in allowed:
        at = node * bins + codes[:, column]
        up = np.bincount(at, gradient, nodes * bins).reshape(nodes, bins)
        weight = np.bincount(at, curvature, nodes * bins).reshape(nodes, bins)
        low, low_weight = up.cumsum(1)[:, :-1], weight.cumsum(1)[:, :-1]
        high, high_weight = up.sum(1, keepdims=True) - low, weight.sum(1, keepdims=True) - low_weight
        gains = (low**2 / (low_weight + config.ridge) + high**2 / (high_weight + config.ridge)).sum(0)
        if signs[column]:  # the whole level must go the right way
            step = (high / (high_weight + config.ridge) - low / (low_weight + config.ridge)) * signs[column]
            gains = np.where((step * np.minimum(low_weight, high_weight)).sum(0) >= 0, gains, -np.inf)
        code = int(gains[: codes[:, column].max()].argmax()) if codes[:, column].max() else 0
        if gains[code] > best[0]:
            best = (float(gains[code]), int(column), code)
    return best[1], best[2]


def unbiased(found: Matrix, right: NDArray[np.bool_]) -> float:
    """The score above which as many answers lie as the judge calls right."""
    return float(np.quantile(found, 1 - right.mean()))


def shifted(trees: Trees, threshold: float) -> Trees:
    """The same trees with ``threshold`` at 0.5."""
    return replace(trees, intercept=round(trees.intercept - float(np.log(threshold / (1 - threshold))), 5))


@dataclass(frozen=True)
class Agreement:
    """With the judge, as shares of different answers."""

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
    """Of each run and side, mean accuracy in percent over passages as recorded and as given; answers without either are out."""
    found: dict[tuple[str, str], dict[tuple[str, str], list[tuple[bool, bool]]]] = defaultdict(lambda: defaultdict(list))
    for one in verdicts:
        if one.answered in given:
            found[one.run, one.side][one.article].append((one.right, given[one.answered]))
    return {key: tuple(100 * np.mean([np.mean(pairs, 0) for pairs in passages.values()], 0)) for key, passages in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder with the recorded runs, train/ and eval/")
    parser.add_argument("--out", type=Path, required=True, help="file of the parameters")
    arguments = parser.parse_args()
    config, verdicts = FitConfig(), recorded(arguments.runs)
    table = tabulate(judged(verdicts))
    evaluated = np.array([one.evaluated for one in table.items])
    items = [one.answered for one in table.items]
    titles = [one.article[0] for one in table.items]
    print(f"{len(verdicts)} verdicts on {len(items)} different answers; {(~table.kept).sum()} refused by a guard")

    threshold = 0.5
    for name, groups in (("passage", [one.article for one in table.items]), ("article", titles)):
        found = table.cross_fitted(groups, config)
        threshold = unbiased(found, table.right)
        given = found > threshold
        print(f"\ncross-fitted by {name}: {Agreement.of(given, table.right)}")
        print(f"  answers in eval/: {Agreement.of(given[evaluated], table.right[evaluated])}")
        _print_accuracies(verdicts, dict(zip(items, given.tolist())))

    trees = shifted(table.fit(~evaluated, config), threshold)
    write(trees, arguments.out)
    held_out = [one for one, out in zip(items, evaluated) if out]
    started = time.process_time()
    given = np.array(scores(held_out, trees)) > 0.5
    seconds = time.process_time() - started
    print(f"\nwritten to {arguments.out}, fitted to train/; on eval/: {Agreement.of(given, table.right[evaluated])}")
    _print_accuracies(verdicts, dict(zip(held_out, given.tolist())))
    print(f"  {len(held_out) / seconds:.0f} answers a second of processor time")


def _print_accuracies(verdicts: Sequence[Recorded], given: Mapping[Answered, bool]) -> None:
    for (run, side), (judge, grader) in accuracies(verdicts, given).items():
        if run in EVALUATED:
            print(f"  {run} {side}: judge {judge:.1f}, grader {grader:.1f} ({grader - judge:+.1f})")


def write(trees: Trees, path: Path) -> None:
    """Write the parameters as JSON, a line a list."""
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
