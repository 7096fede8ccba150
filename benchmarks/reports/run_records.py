"""Read run directories: settings, evaluation tasks, and the JSON lines of every run as data frames.

records = read(["runs/squad"])
records.runs[0].points["score"]

Runs may be unfinished. A line that was being written when a run was killed, and an evaluation that lacks tasks, are left out
and reported in :attr:`Records.notes`; a broken line elsewhere raises an error.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.reports.metrics import curve_metrics
from benchmarks.reports.renamed_keys import load, load_settings
from seal_env.plots import accuracy_matrix

POOLED = ("env", "env_options", "policy", "budget", "evaluation")  # settings that pooled run directories must share
_QUESTION = ("question", "gold", "answer_before", "answer", "correct_before", "correct")
_RESULT = ["edits", "task", "score", "reward", "text", "fit_status", "questions"]  # what two copies of a run must share


@dataclass(frozen=True)
class Task:
    """A task that agents were evaluated on."""

    index: int
    title: str
    context: str
    questions: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Agent:
    """The agent behind a label."""

    label: str
    agent: str
    config: Mapping[str, Any]
    self_adapting: bool
    tuned_on: int | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """One agent with one seed. The columns of its data frames are the keys of the JSON lines, with the changes below.

    Attributes:
        label: of the agent.
        seed: of the run.
        done: whether the run is complete.
        domain: of the environment that it was evaluated in; empty if the run recorded none.
        edits: one row per scored edit; ``tokens`` counts all updates of the edit.
        rounds: one row per training round, which ended after ``edits`` scored edits; ``seconds`` is the sum over its phases,
            without evaluation.
        evaluations: one row per evaluated task, of complete evaluations only, with its ``passage_title`` and ``context``.
            ``graded``: whether ``score`` counts; ``ungraded``: how many of its ``questions`` have no verdict before or after
            the update.
        sequences: of the final policy, per continual sequence: ``(steps, passages)``, accuracy on each passage after each
            update; NaN above the diagonal.
        notes: what was left out.
    """

    label: str
    seed: int
    done: bool
    domain: str
    edits: pd.DataFrame
    rounds: pd.DataFrame
    evaluations: pd.DataFrame
    sequences: Sequence[NDArray[np.float64]] = ()
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def points(self) -> pd.DataFrame:
        """One row per evaluation, indexed by scored edits: the ``tokens`` and ``seconds`` that training had cost until then,
        the questions that were ``ungraded``, and every metric that has a curve (NaN where it does not apply)."""
        rows = {}
        for edits, tasks in self.evaluations.groupby("edits"):
            rows[edits] = {
                "tokens": self.edits["tokens"][self.edits["edit"] < edits].sum(),
                "seconds": self.rounds["seconds"][self.rounds["edits"] <= edits].sum(),
                "ungraded": tasks["ungraded"].sum(),
            }
            for metric in curve_metrics():
                value = metric.per_point(tasks) if metric.per_point and metric.applies(self) else None
                rows[edits][metric.key] = np.nan if value is None else value
        return pd.DataFrame.from_dict(rows, orient="index").astype(float)

    @property
    def final(self) -> pd.DataFrame:
        """The rows of the last evaluation."""
        return self.evaluations[self.evaluations["edits"] == self.evaluations["edits"].max()]

    @property
    def learns(self) -> bool:
        return len(self.edits) > 0 or (len(self.evaluations) > 0 and self.evaluations["edits"].max() > 0)


@dataclass(frozen=True, eq=False)
class Records:
    """One benchmark, from one run directory or several.

    Attributes:
        settings: those of :data:`POOLED`.
        agents: by label.
        seeds: planned for each label.
        tasks: of the evaluation, by index.
        runs: those that were started.
        about: command, versions and machine of each run directory (``about.json``).
        folders: the run directories.
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
        """What is missing, one sentence each."""
        notes = []
        for label, seeds in self.seeds.items():
            runs = {run.seed: run for run in self.of(label) if len(run.evaluations)}
            missing = [str(seed) for seed in seeds if seed not in runs]
            if missing:
                notes.append(f"{label}, seed{'s' if len(missing) > 1 else ''} {', '.join(missing)}: not evaluated yet.")
            for seed, run in runs.items():
                if not run.done:
                    last = run.evaluations["edits"].max()
                    notes.append(f"{label}, seed {seed}: unfinished, evaluated up to {last} scored edits.")
        return notes + [f"{run.label}, seed {run.seed}: {note}" for run in self.runs for note in run.notes]


def read(folders: Sequence[str | os.PathLike[str]]) -> Records:
    """Read the run directories of one benchmark: the same settings, whatever agents and seeds each ran.

    A run that two directories hold with equal results counts once.

    Raises:
        ValueError: a folder is not a run directory, a file is broken, or the directories cannot be pooled; the message names
            the difference.
    """
    if not folders:
        raise ValueError("give at least one run directory")
    return functools.reduce(_pool, [_read(Path(folder)) for folder in dict.fromkeys(os.fspath(folder) for folder in folders)])


# Several run directories ------------------------------------------------------------------------------------------------


def _pool(first: Records, second: Records) -> Records:
    refusal = f"{first.folders[0]} and {second.folders[0]} cannot be pooled"
    if difference := _first_difference(first.settings, second.settings):
        raise ValueError(f"{refusal}: {difference}")
    for label in first.agents.keys() & second.agents.keys():
        if difference := _first_difference(vars(first.agents[label]), vars(second.agents[label])):
            raise ValueError(f"{refusal}: {label!r} is not the same agent, {difference}")
    if first.tasks != second.tasks:
        indices = sorted(first.tasks.keys() | second.tasks.keys())
        index = next(i for i in indices if first.tasks.get(i) != second.tasks.get(i))
        raise ValueError(f"{refusal}: evaluation task {index} is not the same passage with the same questions")
    runs = {(run.label, run.seed): run for run in first.runs}
    for run in second.runs:
        known = runs.get((run.label, run.seed))
        if known and _results(known) != _results(run):
            raise ValueError(f"{refusal}: both hold {run.label!r} with seed {run.seed}, with other results")
        runs[run.label, run.seed] = max(known, run, key=lambda each: each.done) if known else run
    agents = {**first.agents, **second.agents}
    return Records(
        settings=first.settings,
        agents=agents,
        seeds={label: tuple(sorted({*first.seeds.get(label, ()), *second.seeds.get(label, ())})) for label in agents},
        tasks=first.tasks,
        runs=list(runs.values()),
        about=[*first.about, *second.about],
        folders=[*first.folders, *second.folders],
    )


def _results(run: Run) -> Any:
    rows = run.evaluations.reindex(columns=_RESULT).fillna({"fit_status": ""}).to_dict("records")
    return sorted(rows, key=lambda row: (row["edits"], row["task"]))


_ABSENT = object()


def differences(first: Any, second: Any, path: str = "") -> dict[str, tuple[str, str]]:
    """Where two JSON trees differ: the value in each, by path with dots between levels."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {
            below: values
            for name in {**first, **second}
            for below, values in differences(
                first.get(name, _ABSENT), second.get(name, _ABSENT), f"{path}.{name}" if path else str(name)
            ).items()
        }
    described = tuple("not set" if value is _ABSENT else repr(value) for value in (first, second))
    return {} if first == second else {path: (described[0], described[1])}


def _first_difference(first: Any, second: Any) -> str:
    return next((f"{path} is {here} and {there}" for path, (here, there) in differences(first, second).items()), "")


# One run directory ------------------------------------------------------------------------------------------------------


def _read(folder: Path) -> Records:
    settings = _read_json(folder / "benchmark.json", "a run directory")
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
    lines, _ = _read_lines(folder / "tasks.jsonl", numbers=["task"], others=["context", "questions"])
    tasks = {task.index: task for task in map(_task, lines.to_dict("records"))}
    if not tasks:
        raise ValueError(f"{folder / 'tasks.jsonl'} is missing or empty: it holds the evaluation's tasks")
    runs = []
    for path in sorted(folder.glob("runs/*/seed-*")):
        label, seed = path.parent.name, re.fullmatch(r"seed-(\d+)", path.name)
        if label not in agents or not seed:
            raise ValueError(f"{path} is not a run of the agents in {folder / 'benchmark.json'}: {', '.join(agents)}")
        runs.append(_read_run(path, label, int(seed[1]), tasks))
    return Records(
        settings={name: settings.get(name, {}) for name in POOLED},
        agents=agents,
        seeds={label: tuple(sorted({*settings["seeds"], *(r.seed for r in runs if r.label == label)})) for label in agents},
        tasks=tasks,
        runs=runs,
        about=[_read_json(path, "documented") for path in [folder / "about.json"] if path.is_file()],
        folders=[folder],
    )


def _read_json(path: Path, kind: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.parent} is not {kind}: {path.name} is missing")
    try:
        tree = load_settings(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return tree


def _read_lines(path: Path, numbers: Sequence[str], others: Sequence[str] = ()) -> tuple[pd.DataFrame, bool]:
    """The JSON lines of a file as rows, indexed by line number, and whether its last line is torn and left out.

    Args:
        path: no rows if the file is missing.
        numbers: keys that every line must have, with a number.
        others: keys that every line must have.

    Raises:
        ValueError: a line is broken; the message names it.
    """
    texts = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    rows: dict[int, dict[str, Any]] = {}
    torn = False
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = load(text)
        except ValueError:
            if number == len(texts):  # no newline ends it
                torn = True
                break
            raise ValueError(f"{where} is not JSON: {text[:60]!r}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where} must be a JSON object, got {text[:60]!r}")
        for name in (*numbers, *others):
            if name not in row:
                raise ValueError(f"{where}: no {name!r}")
            if name in numbers and (isinstance(row[name], bool) or not isinstance(row[name], (int, float))):
                raise ValueError(f"{where}: {name} must be a number, got {row[name]!r}")
        rows[number] = row
    # Objects, not pandas' text: an edit may hold characters that UTF-8 cannot encode.
    frame = pd.DataFrame(list(rows.values()), index=list(rows), dtype=object)
    return frame if rows else pd.DataFrame(columns=[*numbers, *others], dtype=object), torn


def _task(row: Mapping[str, Any]) -> Task:
    questions = tuple((question["question"], tuple(question["answers"])) for question in row["questions"])
    return Task(int(row["task"]), row.get("title") or "", row["context"], questions)


def _read_run(path: Path, label: str, seed: int, tasks: Mapping[int, Task]) -> Run:
    edits, torn_edits = _read_lines(path / "edits.jsonl", numbers=["edit", "task", "reward"])
    rounds, torn_rounds = _read_lines(path / "rounds.jsonl", numbers=["edits"])
    evaluations, torn_evaluations = _read_evaluations(path / "evaluation.jsonl", tasks)
    torn = {"edits": torn_edits, "rounds": torn_rounds, "evaluation": torn_evaluations}
    notes = [f"the last line of {name}.jsonl is torn and left out." for name, is_torn in torn.items() if is_torn]
    for at, count in evaluations["edits"].value_counts(sort=False).items():
        if count < len(tasks):
            notes.append(f"the evaluation at {at} scored edits has {count} of {len(tasks)} tasks and is left out.")
            evaluations = evaluations[evaluations["edits"] != at]
    updates = [max(1, len(scores)) for scores in _values(edits, "scores", ())]  # each trains on the edit's tokens
    tokens = [int(tokens) * count for tokens, count in zip(_values(edits, "tokens", 0), updates)]
    seconds = [sum(phases.values()) for phases in _values(rounds, "seconds", {})]
    resolved = path / "environment.json"
    environment = _read_json(resolved, "documented").get("evaluation", {}) if resolved.is_file() else {}
    return Run(
        label=label,
        seed=seed,
        done=(path / "done.json").is_file(),
        domain=environment.get("domain", ""),
        edits=edits.assign(tokens=tokens).astype({"edit": int, "task": int, "reward": float, "tokens": int}),
        rounds=rounds.assign(seconds=seconds).astype({"edits": int, "seconds": float}),
        evaluations=evaluations,
        sequences=_read_sequences(path / "continual.jsonl"),
        notes=tuple(notes),
    )


def _read_evaluations(path: Path, tasks: Mapping[int, Task]) -> tuple[pd.DataFrame, bool]:
    frame, torn = _read_lines(path, numbers=["edits", "task", "score", "reward"], others=["text"])
    frame = frame.astype({"edits": int, "task": int, "score": float, "reward": float})
    for number in frame.index[~frame["task"].isin(list(tasks))]:
        raise ValueError(f"{path}, line {number}: task {frame['task'][number]} is not in tasks.jsonl")
    for number in frame.index[frame.duplicated(["edits", "task"])]:
        task, edits = frame["task"][number], frame["edits"][number]
        raise ValueError(f"{path}, line {number}: task {task} is evaluated twice at {edits} scored edits")
    questions = _values(frame, "questions", [])
    for number, name in (
        (n, name) for n, each in zip(frame.index, questions) for q in each for name in _QUESTION if name not in q
    ):
        raise ValueError(f"{path}, line {number}: no {name!r} in a question")
    ungraded = [sum(None in (q["correct_before"], q["correct"]) for q in each) for each in questions]
    graded = [not each or count < len(each) for each, count in zip(questions, ungraded)]
    passages = [tasks[i] for i in frame["task"]]
    frame = frame.assign(
        questions=questions,
        fit_status=_values(frame, "fit_status", ""),
        passage_title=pd.Series([task.title for task in passages], frame.index, object),
        context=pd.Series([task.context for task in passages], frame.index, object),  # Arrow's strings hold no lone surrogates
    )
    return frame.assign(ungraded=np.array(ungraded, int), graded=np.array(graded, bool)), torn


def _values(frame: pd.DataFrame, name: str, default: Any) -> list[Any]:
    """A column's values, with ``default`` where a line has none."""
    values = frame[name].tolist() if name in frame else [None] * len(frame)
    return [default if value is None or value != value else value for value in values]  # NaN is unequal to itself


def _read_sequences(path: Path) -> tuple[NDArray[np.float64], ...]:
    lines, _ = _read_lines(path, numbers=["sequence"], others=["accuracy_row"])
    sequences: dict[int, list[list[float]]] = {}
    for number, sequence, row in zip(lines.index, lines["sequence"], lines["accuracy_row"]):
        rows = sequences.setdefault(int(sequence), [])
        if len(row) != len(rows) + 1:
            raise ValueError(
                f"{path}, line {number}: step {len(rows)} has an accuracy_row of {len(rows) + 1} passages, got {row}"
            )
        rows.append(row)
    return tuple(accuracy_matrix({"accuracy_row": row} for row in rows) for rows in sequences.values())
