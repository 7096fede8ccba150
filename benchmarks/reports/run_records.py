"""What a benchmark wrote, read back: settings, evaluation tasks, and the JSON lines of every run.

records = read(["runs/squad"])
records.runs[0].points[-1].score

Runs may be unfinished. A line that was being written when a run was cut off, and an evaluation that was not through, are left
out and named in :attr:`Records.notes`; a broken line elsewhere is an error.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from seal_env.tasks.answer_match import normalize

POOLED = ("env", "env_options", "policy", "budget", "evaluation")  # settings in which pooled folders must agree


@dataclass(frozen=True)
class Task:
    """A passage that agents were evaluated on."""

    index: int
    title: str
    context: str
    questions: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Question:
    """A question as the student answered it before and after an update; verdicts are None where an answer is not graded."""

    question: str
    gold: str
    answer_before: str
    answer: str
    correct_before: bool | float | None
    correct: bool | float | None

    @property
    def graded(self) -> bool:
        """Whether scores are about it: it has both verdicts."""
        return self.correct_before is not None and self.correct is not None


@dataclass(frozen=True)
class Evaluation:
    """One task at one evaluation point.

    Attributes:
        score: share of its graded questions that the updated student answers right (``reward`` may be another measure).
        text: the edit.
        status: of the update.
    """

    task: int
    score: float
    reward: float
    text: str
    status: str
    questions: tuple[Question, ...]

    @property
    def ungraded(self) -> int:
        """How many of its questions the score leaves out."""
        return sum(not question.graded for question in self.questions)

    @property
    def graded(self) -> bool:
        """Whether there is a score: not where all questions are left out."""
        return not self.questions or self.ungraded < len(self.questions)

    @functools.cached_property
    def coverage(self) -> float | None:
        """Share of the gold answers that occur in the edit as whole words, both normalised; None without questions."""
        edit = f" {normalize(self.text)} "
        golds = [normalize(question.gold) for question in self.questions]
        return sum(bool(gold) and f" {gold} " in edit for gold in golds) / len(golds) if golds else None


@dataclass(frozen=True)
class Continual:
    """Passages that were learnt one after the other.

    Attributes:
        rows: ``rows[t][i]``, accuracy on passage i after update t, for i up to t.
    """

    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Edit:
    """A scored edit of training.

    Attributes:
        index: how many were scored before it in its run.
        tokens: trained on in the inner loop, over all of its updates.
    """

    index: int
    task: int
    reward: float
    tokens: int


@dataclass(frozen=True)
class Round:
    """A round of training, which ended after ``edits`` scored edits; ``seconds`` of its phases, evaluation not among them."""

    edits: int
    metrics: Mapping[str, Any]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Point:
    """An evaluation: means over all tasks, and what training had cost until then.

    Attributes:
        score: over the tasks with a graded question; 0 where no task has one.
        length: characters of an edit.
        coverage: see :attr:`Evaluation.coverage`; NaN where no task has any, or answers are grids, of several lines or one.
        tokens: of the inner loop.
        seconds: of training.
        ungraded: questions that the scores leave out.
    """

    edits: int
    score: float
    length: float
    coverage: float
    tokens: int
    seconds: float
    ungraded: int


@dataclass(frozen=True)
class Agent:
    """What a label stands for."""

    label: str
    agent: str
    config: Mapping[str, Any]
    self_adapting: bool
    tuned_on: int | None = None


@dataclass(frozen=True)
class Run:
    """One agent with one seed.

    Attributes:
        done: it went to its end.
        evaluations: by scored edits, then by task; only complete ones.
        sequences: of its final policy, if they were asked for.
        notes: what was left out.
    """

    label: str
    seed: int
    done: bool
    edits: tuple[Edit, ...]
    rounds: tuple[Round, ...]
    evaluations: Mapping[int, Mapping[int, Evaluation]]
    sequences: tuple[Continual, ...] = ()
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def points(self) -> list[Point]:
        return [self._point(edits) for edits in sorted(self.evaluations)]

    @property
    def learns(self) -> bool:
        return bool(self.edits) or max(self.evaluations, default=0) > 0

    def _point(self, edits: int) -> Point:
        found = list(self.evaluations[edits].values())
        grids = any("\n" in question.gold for one in found for question in one.questions)  # no phrases that an edit could hold
        covered = [one.coverage for one in found if one.coverage is not None and not grids]
        return Point(
            edits,
            float(np.mean([one.score for one in found if one.graded] or [0.0])),
            float(np.mean([len(one.text) for one in found])),
            float(np.mean(covered)) if covered else float("nan"),
            sum(edit.tokens for edit in self.edits if edit.index < edits),
            sum(sum(each.seconds.values()) for each in self.rounds if each.edits <= edits),
            sum(one.ungraded for one in found),
        )


@dataclass(frozen=True)
class Records:
    """One benchmark, from one folder or several.

    Attributes:
        settings: those of :data:`POOLED`.
        agents: by label.
        seeds: those that each label was to run.
        tasks: the evaluation's, by index.
        runs: those that were begun.
        about: how each folder was made (``about.json``).
        folders: where it was read from.
    """

    settings: Mapping[str, Any]
    agents: Mapping[str, Agent]
    seeds: Mapping[str, tuple[int, ...]]
    tasks: Mapping[int, Task]
    runs: Sequence[Run]
    about: Sequence[Mapping[str, Any]]
    folders: Sequence[Path]

    def of(self, label: str) -> list[Run]:
        """The runs of an agent, by seed."""
        return sorted((run for run in self.runs if run.label == label), key=lambda run: run.seed)

    @property
    def notes(self) -> list[str]:
        """What is missing, a sentence each."""
        return [*self._unfinished(), *(f"{run.label}, seed {run.seed}: {note}" for run in self.runs for note in run.notes)]

    def _unfinished(self) -> Iterator[str]:
        for label, seeds in self.seeds.items():
            runs = {run.seed: run for run in self.of(label)}
            missing = [str(seed) for seed in seeds if seed not in runs or not runs[seed].evaluations]
            if missing:
                yield f"{label}, seed{'s' if len(missing) > 1 else ''} {', '.join(missing)}: not evaluated yet."
            for seed in seeds:
                if seed in runs and runs[seed].evaluations and not runs[seed].done:
                    yield f"{label}, seed {seed}: unfinished, evaluated up to {max(runs[seed].evaluations)} scored edits."


def read(folders: Sequence[str | os.PathLike[str]]) -> Records:
    """Read folders of one benchmark: the same settings, whatever agents and seeds each ran.

    A run that two folders hold with equal results counts once.

    Raises:
        ValueError: no folder of a benchmark, a broken one, or folders that cannot be pooled; the difference is named.
    """
    if not folders:
        raise ValueError("give at least one folder of a benchmark")
    first, *others = [_read(Path(folder)) for folder in dict.fromkeys(os.fspath(each) for each in folders)]
    for other in others:
        first = _pool(first, other)
    return first


# Several folders ------------------------------------------------------------------------------------------------------


def _pool(one: Records, other: Records) -> Records:
    where = f"{one.folders[0]} and {other.folders[0]}"
    if difference := _first_difference(one.settings, other.settings):
        raise ValueError(f"{where} cannot be pooled: {difference}")
    for label in one.agents.keys() & other.agents.keys():
        if difference := _first_difference(vars(one.agents[label]), vars(other.agents[label])):
            raise ValueError(f"{where} cannot be pooled: {label!r} is not the same agent, {difference}")
    if one.tasks != other.tasks:
        index = next(i for i in sorted(one.tasks.keys() | other.tasks.keys()) if one.tasks.get(i) != other.tasks.get(i))
        raise ValueError(f"{where} cannot be pooled: evaluation task {index} is not the same passage with the same questions")
    runs = {(run.label, run.seed): run for run in one.runs}
    for run in other.runs:
        known = runs.get((run.label, run.seed))
        if known and known.evaluations != run.evaluations:
            raise ValueError(f"{where} cannot be pooled: both hold {run.label!r} with seed {run.seed}, with other results")
        runs[run.label, run.seed] = max(known, run, key=lambda each: each.done) if known else run
    return Records(
        one.settings,
        {**one.agents, **other.agents},
        {
            label: tuple(sorted({*one.seeds.get(label, ()), *other.seeds.get(label, ())}))
            for label in {**one.agents, **other.agents}
        },
        one.tasks,
        list(runs.values()),
        [*one.about, *other.about],
        [*one.folders, *other.folders],
    )


def differences(one: Any, other: Any, path: str = "") -> dict[str, tuple[str, str]]:
    """Where two JSON trees differ: by path, with dots between levels, the value here and there."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found: dict[str, tuple[str, str]] = {}
        for name in {**one, **other}:
            below = f"{path}.{name}" if path else str(name)
            found |= differences(one.get(name, _ABSENT), other.get(name, _ABSENT), below)
        return found
    return {} if one == other else {path: (_said(one), _said(other))}


def _first_difference(one: Any, other: Any) -> str:
    return next((f"{path} is {here} and {there}" for path, (here, there) in differences(one, other).items()), "")


_ABSENT = object()


def _said(value: Any) -> str:
    return "not set" if value is _ABSENT else repr(value)


# One folder -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """A JSON line, whose missing fields are named with their place."""

    path: Path
    number: int
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise ValueError(f"{self.path}, line {self.number}: no {name!r}") from None

    def get(self, name: str, default: Any) -> Any:
        found = self.values.get(name)
        return default if found is None else found

    def number_of(self, name: str) -> float:
        value = self[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{self.path}, line {self.number}: {name} must be a number, got {value!r}")
        return float(value)

    @classmethod
    def all(cls, path: Path) -> tuple[list[Self], bool]:
        """The lines of a file (none if it is missing), and whether a torn last one was left out."""
        if not path.is_file():
            return [], False
        texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
        lines: list[Self] = []
        for number, text in enumerate(texts, 1):
            if not text.strip():
                continue
            try:
                values = json.loads(text)
            except ValueError:
                if number == len(texts):  # nothing ended it
                    return lines, True
                raise ValueError(f"{path}, line {number} is no JSON: {text[:60]!r}") from None
            if not isinstance(values, dict):
                raise ValueError(f"{path}, line {number} must be a JSON object, got {text[:60]!r}")
            lines.append(cls(path, number, values))
        return lines, False


def _read(folder: Path) -> Records:
    settings = _json(folder / "benchmark.json", "the folder of a benchmark")
    for name in ("env", "agents", "seeds", "budget", "evaluation"):
        if name not in settings:
            raise ValueError(f"{folder / 'benchmark.json'} has no {name!r}")
    agents = {
        label: Agent(
            label,
            about.get("agent", label),
            about.get("config", {}),
            bool(about.get("self_adapting", False)),
            about.get("tuned_on"),
        )
        for label, about in settings["agents"].items()
    }
    lines, _ = _Line.all(folder / "tasks.jsonl")
    tasks = {task.index: task for task in map(_task, lines)}
    if not tasks:
        raise ValueError(f"{folder / 'tasks.jsonl'} is missing or empty: it holds the evaluation's tasks")
    runs = []
    for path in sorted(folder.glob("runs/*/seed-*")):
        label, seed = path.parent.name, re.fullmatch(r"seed-(\d+)", path.name)
        if label not in agents or not seed:
            raise ValueError(f"{path} is not a run of the agents in {folder / 'benchmark.json'}: {', '.join(agents)}")
        runs.append(_run(path, label, int(seed[1]), tasks))
    planned = {
        label: tuple(sorted({*settings["seeds"], *(run.seed for run in runs if run.label == label)})) for label in agents
    }
    about = folder / "about.json"
    return Records(
        {name: settings.get(name, {}) for name in POOLED},
        agents,
        planned,
        tasks,
        runs,
        [_json(about, "how the benchmark was made")] if about.is_file() else [],
        [folder],
    )


def _json(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.parent} is not {what}: {path.name} is missing")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return found


def _task(line: _Line) -> Task:
    questions = tuple((question["question"], tuple(question["answers"])) for question in line["questions"])
    return Task(int(line["task"]), line.get("title", ""), line["context"], questions)


def _run(path: Path, label: str, seed: int, tasks: Mapping[int, Task]) -> Run:
    notes = []
    found = {}
    for name in ("edits", "rounds", "evaluation"):
        found[name], torn = _Line.all(path / f"{name}.jsonl")
        if torn:
            notes.append(f"the last line of {name}.jsonl is torn and left out.")
    evaluations: dict[int, dict[int, Evaluation]] = {}
    for line in found["evaluation"]:
        one, edits = _evaluation(line), int(line.number_of("edits"))
        if one.task not in tasks:
            raise ValueError(f"{line.path}, line {line.number}: task {one.task} is not in tasks.jsonl")
        if one.task in evaluations.setdefault(edits, {}):
            raise ValueError(f"{line.path}, line {line.number}: task {one.task} is evaluated twice at {edits} scored edits")
        evaluations[edits][one.task] = one
    for edits, partial in list(evaluations.items()):
        if len(partial) < len(tasks):
            notes.append(f"the evaluation at {edits} scored edits has {len(partial)} of {len(tasks)} tasks and is left out.")
            del evaluations[edits]
    return Run(
        label,
        seed,
        (path / "done.json").is_file(),
        tuple(map(_edit, found["edits"])),
        tuple(map(_round, found["rounds"])),
        evaluations,
        _sequences(path / "continual.jsonl"),
        tuple(notes),
    )


def _sequences(path: Path) -> tuple[Continual, ...]:
    rows: dict[int, list[tuple[float, ...]]] = {}
    for line in _Line.all(path)[0]:
        found = rows.setdefault(int(line.number_of("sequence")), [])
        row = line["accuracy_row"]
        if len(row) != len(found) + 1:
            raise ValueError(
                f"{path}, line {line.number}: step {len(found)} has an accuracy_row of {len(found) + 1}, got {row}"
            )
        found.append(tuple(map(float, row)))
    return tuple(Continual(tuple(each)) for each in rows.values())


def _edit(line: _Line) -> Edit:
    tokens = int(line.get("tokens", 0)) * max(1, len(line.get("scores", ())))  # each of an edit's updates trains on them
    return Edit(int(line.number_of("edit")), int(line.number_of("task")), line.number_of("reward"), tokens)


def _round(line: _Line) -> Round:
    metrics = {name: value for name, value in line.values.items() if name not in ("edits", "seconds")}
    return Round(int(line.number_of("edits")), metrics, line.get("seconds", {}))


def _evaluation(line: _Line) -> Evaluation:
    names = ("question", "gold", "answer_before", "answer", "correct_before", "correct")
    questions = []
    for each in line.get("questions", ()):
        question = _Line(line.path, line.number, each)
        questions.append(Question(*(question[name] for name in names)))
    return Evaluation(
        int(line.number_of("task")),
        line.number_of("score"),
        line.number_of("reward"),
        line["text"],
        line.get("fit_status", ""),
        tuple(questions),
    )
