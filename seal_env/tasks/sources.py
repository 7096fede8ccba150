"""Datasets: tasks by name, from a path or the hub, from a function, or in memory.

source = load_tasks("squad_val.json", seed=42, limit=200)   # SEAL's evaluation set
source[0].context, len(source), source[50:100]              # task 0, the number of tasks, a slice as a source

A dataset is a function ``load(split, **options)``. It returns a :class:`TaskSource`, or a list of tasks or of records
(``seal_env.tasks.records``); :func:`load_tasks` shuffles and slices what it returns. A new dataset is such a function and a row
below, or the same function in another package: ``dataset="package.module:load"``, or an entry point in ``seal_env.datasets``.
"""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from operator import index as as_index
from pathlib import Path
from typing import Any, overload

from seal_env.checks import brief, check_count, check_names, did_you_mean
from seal_env.registry import Registry, callable_problem, name_of
from seal_env.tasks.folder import DOCUMENTS
from seal_env.tasks.records import from_records, keys_of, numbered, numbered_items
from seal_env.tasks.tables import TABLES, rows_of
from seal_env.tasks.task import SPLITS, Document, Task

Load = Callable[..., Any]  # (split, **options) -> TaskSource | Sequence[Task] | Sequence[Mapping[str, Any]]

DATASETS: Registry[Load] = Registry("dataset", "seal_env.datasets", callable_problem)
DATASETS.register(
    "almanac", "seal_env.tasks.almanac.almanac:load", "generated articles about invented people, towns, ships, ...; endless"
)
DATASETS.register(
    "path", "seal_env.tasks.task_files:load_path", "a file of questions, or a folder of documents or tables: dataset='notes'"
)
DATASETS.register("hub", "seal_env.tasks.task_files:load_hub", "a dataset of the Hugging Face hub: dataset='rajpurkar/squad'")
DATASETS.register("squad", "seal_env.tasks.task_files:load_squad", "SQuAD 1.1's development set, from the hub")
DATASETS.register("mini-arc", "seal_env.tasks.arc.mini:load", "generated few-shot tasks on small grids; endless")
_ARC = "seal_env.tasks.arc.arc_sources"
DATASETS.register("mini-arc-filtered", f"{_ARC}:load_filtered", "those of mini-arc that the bundled student can learn")
DATASETS.register("arc-agi-1", f"{_ARC}:load_arc_agi_1", "ARC Prize's public tasks; needs seal-env[arc]")
DATASETS.register("arc-agi-2", f"{_ARC}:load_arc_agi_2", "the second version of ARC Prize's public tasks; needs seal-env[arc]")
DATASETS.register("arc-path", f"{_ARC}:load_path", "a file or folder of ARC tasks; with domain='arc': dataset='tasks.json'")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_IMPORT_PATH = re.compile(r"[\w.]+:[\w.]+")
_ALL = range(sys.maxsize)
FILES = (".json", *TABLES, *DOCUMENTS)
_WHAT_WORKS = "a path, a hub id such as 'rajpurkar/squad', 'package.module:function', or tasks or records in memory"


class TaskSource:
    """Tasks in a fixed order, read by index: task ``i`` is the same in every call.

    Args:
        name: of the dataset.
        read: returns item ``i``: a task, or a document if ``has_questions`` is False.
        order: the indices that ``read`` is called with, in the order of this source; by default all integers from 0.
        has_questions: whether items are tasks. Documents without questions are read with :meth:`document`.
        has_splits: whether ``train``, ``validation`` and ``test`` are different tasks.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[int], Task] | Callable[[int], Document],
        order: Sequence[int] = _ALL,
        has_questions: bool = True,
        has_splits: bool = True,
    ) -> None:
        self.name = name
        self.has_questions = has_questions
        self.has_splits = has_splits
        self._read = read
        self._order = order
        self._endless = isinstance(order, range) and order.stop == _ALL.stop

    @property
    def size(self) -> int | None:
        """The number of tasks; None if the source is endless."""
        return None if self._endless else len(self._order)

    def __len__(self) -> int:
        if self._endless:
            raise TypeError(
                f"{self.name!r} is endless and has no len(): take a slice such as source[:100], or read source.size"
            )
        return len(self._order)

    def __bool__(self) -> bool:
        return self._endless or len(self._order) > 0

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> TaskSource: ...
    def __getitem__(self, index: int | slice) -> Task | TaskSource:
        """Task ``index``, or a slice as a source."""
        if isinstance(index, slice):
            return self._slice(index)
        item = self._item(index)
        if isinstance(item, Document):
            raise ValueError(
                f"{self.name!r} has no questions (document {item.id!r}): put them beside it in NAME.questions.json, "
                "read source.document(i) and write them yourself, or let a model write them (seal_env.domains.self_questions)"
            )
        return item

    def __iter__(self) -> Iterator[Task]:
        return (self[i] for i in range(len(self._order)))

    def document(self, index: int) -> Document:
        """The title and passage of item ``index``, with or without questions."""
        item = self._item(index)
        return item if isinstance(item, Document) else Document(item.title, item.context, item.id)

    def with_questions(self, ask: Callable[[Document], Task]) -> TaskSource:
        """These documents as tasks; ``ask`` is called each time that a task is read."""
        if self.has_questions:
            raise ValueError(f"{self.name!r} has questions already: with_questions is for documents without any")
        return TaskSource(self.name, partial(_read_and_ask, self, ask), range(len(self)), has_splits=self.has_splits)

    def shuffled(self, seed: int) -> TaskSource:
        """The same tasks in the order of ``random.seed(seed); random.shuffle(tasks)``."""
        if self._endless:
            raise ValueError(f"{self.name!r} is endless and cannot be shuffled, got seed={seed}; its own options take a seed")
        order = list(self._order)
        random.Random(seed).shuffle(order)
        return TaskSource(self.name, self._read, order, self.has_questions, self.has_splits)

    def part(self, seed: int | None, offset: int, limit: int | None) -> TaskSource:
        """The tasks without the first ``offset``, at most ``limit`` of them; shuffled before if ``seed`` is not None.

        Raises:
            ValueError: an argument that cannot work, or no task is left.
        """
        if not isinstance(offset, int) or offset < 0:
            raise ValueError(f"offset must be an integer >= 0, got {offset!r}")
        if limit is not None:
            check_count("limit", limit)
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"seed must be an integer or None, got {seed!r}")
        source = self if seed is None else self.shuffled(seed)
        part = source[offset : None if limit is None else offset + limit]
        if not part:
            raise ValueError(f"offset {offset} leaves nothing of {source.name!r}, which has {source.size}")
        return part

    def cut(self, split: str, held_out: Mapping[str, int]) -> TaskSource:
        """The tasks of ``split``, if this source has no splits: ``train`` is what is left after ``test`` and ``validation``.

        Args:
            split: ``train``, ``validation`` or ``test``.
            held_out: the number of tasks of ``test`` and of ``validation``, the first and the next ones after a shuffle with
                ``seed`` (default 42).

        Raises:
            ValueError: a value is out of range, or no task is left.
        """
        if self.has_splits:
            return self
        test, validation = (held_out.get(name, 0) for name in ("test", "validation"))
        first, last = {"test": (0, test), "validation": (test, test + validation)}.get(split, (test + validation, None))
        part = self.shuffled(held_out.get("seed", 42))[first:last]
        if not part:
            raise ValueError(
                f"held_out={dict(held_out)!r} leaves nothing of the split {split!r} of {self.name!r}, which has {self.size}"
                " tasks: hold out fewer, or held_out={} to use all tasks for any split"
            )
        return part

    def __repr__(self) -> str:
        kind = "tasks" if self.has_questions else "documents without questions"
        return f"<TaskSource {self.name!r}: {'endless' if self._endless else len(self._order)} {kind}>"

    def _item(self, index: int) -> Task | Document:
        index = as_index(index)
        if self._endless and index < 0:
            raise IndexError(f"{self.name!r} is endless and has no task {index} from its end")
        try:
            return self._read(self._order[index])
        except IndexError:
            raise IndexError(f"{self.name!r} has no task {index}: there are {len(self._order)}") from None

    def _slice(self, part: slice) -> TaskSource:
        if self._endless and any(number is not None and number < 0 for number in (part.start, part.stop, part.step)):
            raise ValueError(f"{self.name!r} is endless and cannot be counted from its end, got {part}")
        return TaskSource(self.name, self._read, self._order[part], self.has_questions, self.has_splits)


def load_tasks(
    dataset: Any = "almanac",
    split: str = "train",
    *,
    seed: int | None = None,
    offset: int = 0,
    limit: int | None = None,
    held_out: Mapping[str, int] | None = None,
    **options: Any,
) -> TaskSource:
    """The tasks of a dataset.

    Args:
        dataset: one of
            - a name in :data:`DATASETS` (``seal-bench list datasets``);
            - a path to a file or folder (:func:`seal_env.tasks.task_files.load_path`);
            - a hub id such as ``rajpurkar/squad`` (:func:`seal_env.tasks.task_files.load_hub`);
            - a function ``load(split, **options)``, or its path ``package.module:load``;
            - a list of tasks or records, a ``datasets.Dataset``, or a mapping from splits to these (:func:`from_memory`).

            A name takes precedence over a path (write ``./almanac`` for a folder of that name).
        split: ``train``, ``validation`` or ``test``; a dataset of the hub may have others. A file, a folder of documents or
            data in memory has no splits: it is used for any split, unless ``held_out`` cuts it into splits.
        seed: shuffle as ``random.seed(seed); random.shuffle(tasks)`` does; None: the dataset's order. Endless datasets have a
            seed among their options instead.
        offset: leave out the first ``offset`` tasks, after shuffling.
        limit: at most this many tasks, after shuffling.
        held_out: cut a dataset without splits into splits: ``{"test": 200, "validation": 200, "seed": 42}`` shuffles it with
            this seed, and makes its first 200 tasks ``test``, the next 200 ``validation`` and all others ``train``. A dataset
            with splits is not changed.
        options: keywords of the dataset's function, such as ``almanac=AlmanacConfig(...)``, ``columns={...}`` or
            ``passage_words=150``.

    Raises:
        ValueError: one line that names the value and what would work.
    """
    source = load_source(dataset, split, options, from_memory, "path", "hub")
    if held_out:
        check_held_out(held_out)
        source = source.cut(split, held_out)
    return source.part(seed, offset, limit)


def check_held_out(held_out: Mapping[str, int]) -> None:
    """Raise a ValueError unless ``held_out`` can be passed to :func:`load_tasks`."""
    if not isinstance(held_out, Mapping):
        raise ValueError(f"held_out must be a dictionary such as {{'test': 200, 'validation': 200}}, got {held_out!r}")
    check_names("held_out", held_out, ["test", "validation", "seed"])
    for name, value in held_out.items():
        if type(value) is not int or value < 0:
            raise ValueError(f"held_out.{name} must be an integer >= 0, got {value!r}")


def load_source(
    dataset: Any, split: str, options: Mapping[str, Any], from_memory: Load, path_dataset: str, hub_dataset: str | None
) -> TaskSource:
    """All tasks of a split. The names are those of the datasets that read paths and hub ids."""
    if not isinstance(split, str):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if isinstance(dataset, str | os.PathLike):
        name = os.fspath(dataset)
        path = Path(os.path.expanduser(name))
        if isinstance(dataset, str) and name in DATASETS:
            load = DATASETS.create(name, options)
        elif os.path.exists(path) and name:
            load = DATASETS.create(path_dataset, {**options, "path": path}, name)
        elif isinstance(dataset, str) and _IMPORT_PATH.fullmatch(name):
            load = DATASETS.create(name, options)
        elif hub_dataset and isinstance(dataset, str) and _HUB_ID.fullmatch(name) and path.suffix.lower() not in FILES:
            load = DATASETS.create(hub_dataset, {**options, "path": name}, name)
        else:
            raise ValueError(_nothing_there(name, path))
    elif callable(dataset):
        load = DATASETS.create(dataset, options)
    else:
        load = DATASETS.create(from_memory, {**options, "data": dataset}, "in memory")
    source = load(split)
    if isinstance(source, TaskSource):
        return source
    try:
        return from_memory(split, data=source)
    except ValueError as error:
        raise ValueError(f"dataset {name_of(load)!r} returned something that cannot be read: {error}") from error


def from_memory(split: str, *, data: Any, columns: Mapping[str, str] | None = None) -> TaskSource:
    """Tasks in memory.

    Args:
        split: a key of ``data``, if that is a mapping; else ``train``, ``validation`` or ``test``, which are all the same.
        data: a list of tasks, of documents or of records (``seal_env.tasks.records``), a ``datasets.Dataset`` of records, or a
            mapping from splits to one of these, such as a ``datasets.DatasetDict``.
        columns: see :func:`seal_env.tasks.task_files.load_path`.
    """
    has_splits = isinstance(data, Mapping)
    if has_splits:
        if split not in data:
            raise ValueError(f"the dataset has no split {split!r}, only {keys_of(data)}")
        data = data[split]
    else:
        check_split(split)
    if isinstance(data, TaskSource):
        return data
    if hasattr(data, "select_columns") and hasattr(data, "to_list"):
        records = rows_of(data, "dataset", (columns or {}).values())
    elif not isinstance(data, Sequence) or isinstance(data, str):
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, {_WHAT_WORKS}, got {brief(data)}")
    elif data and all(isinstance(item, Task) for item in data):
        return source_of("dataset", numbered(data, "dataset"), has_splits=has_splits)
    elif data and all(isinstance(item, Document) for item in data):
        return source_of("dataset", data, has_splits=has_splits)
    else:
        records = list(numbered_items(list(data), "dataset", "item"))
    return source_of("dataset", numbered(from_records(records, "dataset", columns), "dataset"), has_splits=has_splits)


def source_of(name: str, items: Sequence[Task] | Sequence[Document], *, has_splits: bool = False) -> TaskSource:
    """A source of these items, at least one, in their order."""
    return TaskSource(name, items.__getitem__, range(len(items)), isinstance(items[0], Task), has_splits)


def _read_and_ask(documents: TaskSource, ask: Callable[[Document], Task], index: int) -> Task:
    return ask(documents.document(index))


def check_split(split: str) -> None:
    """Raise a ValueError unless ``split`` is ``train``, ``validation`` or ``test``."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.{did_you_mean(split, SPLITS)}")


def _nothing_there(name: str, path: Path) -> str:
    """The error message for a dataset that does not exist."""
    if path.parent == Path() and not path.suffix:
        return DATASETS.unknown(name, os.listdir(), _WHAT_WORKS)
    if not os.path.isdir(path.parent):
        return f"no file or folder {name!r}: there is no folder {str(path.parent)!r}"
    close = get_close_matches(path.name, sorted(os.listdir(path.parent)), n=1)
    return f"no file or folder {name!r}." + (f" Did you mean {str(path.parent / close[0])!r}?" if close else "")
