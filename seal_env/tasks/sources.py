"""Where tasks come from, by name: ``load_tasks("almanac")``, a path, or a hub id.

source = load_tasks("squad_val.json", seed=42, limit=200)   # SEAL's evaluation set
source[0].context, len(source), source[50:100]              # the i-th task, how many, a part as a source of its own
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
from typing import overload

from seal_env.checks import check_count, did_you_mean
from seal_env.tasks.almanac import SPLITS, Almanac, AlmanacConfig
from seal_env.tasks.folder import (
    DOCUMENTS,
    PASSAGE_WORDS,
    Document,
    document_files,
    is_questions,
    read_documents,
    visible_files,
)
from seal_env.tasks.squad import check_columns, from_records, from_squad, numbered
from seal_env.tasks.tables import TABLES, read_dataset, read_json_records, read_records
from seal_env.tasks.task import Task

ALMANAC = "almanac"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILES = (".json", *TABLES, *DOCUMENTS)
_NO_DOCUMENTS = ("readme", "license", "licence")  # what a folder of tables has beside them


class TaskSource:
    """Tasks in a fixed order, to read by index: the i-th is the same whenever it is asked for.

    Args:
        name: what they were loaded from.
        read: the item at a place; documents if ``has_questions`` is False.
        order: the places, in the order of this source.
        endless: whether ``order`` only stands for all numbers.
        has_questions: whether items are tasks. Documents that nobody wrote questions for are read with :meth:`document`.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[int], Task] | Callable[[int], Document],
        order: Sequence[int],
        endless: bool = False,
        has_questions: bool = True,
    ) -> None:
        self.name = name
        self.has_questions = has_questions
        self._read = read
        self._order = order
        self._endless = endless

    @property
    def size(self) -> int | None:
        """How many tasks there are; None: they never end."""
        return None if self._endless else len(self._order)

    def __len__(self) -> int:
        if self._endless:
            raise TypeError(
                f"{self.name!r} is endless and has no len(): take a part such as source[:100], or look at source.size"
            )
        return len(self._order)

    def __bool__(self) -> bool:
        return self._endless or len(self._order) > 0

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> TaskSource: ...
    def __getitem__(self, index: int | slice) -> Task | TaskSource:
        """Task ``index``, or the part that a slice names, as a source."""
        if isinstance(index, slice):
            return self._part(index)
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
        """The title and passage of item ``index``, whether it has questions or not."""
        item = self._item(index)
        return item if isinstance(item, Document) else Document(item.title, item.context, item.id)

    def with_questions(self, ask: Callable[[Document], Task]) -> TaskSource:
        """These documents as tasks: ``ask`` makes the task of one each time that it is read."""
        if self.has_questions:
            raise ValueError(f"{self.name!r} has questions already: with_questions is for documents without any")
        return TaskSource(self.name, partial(_asked, self, ask), range(len(self)))

    def shuffled(self, seed: int) -> TaskSource:
        """The same in the order of ``random.seed(seed); random.shuffle(tasks)``."""
        if self._endless:
            raise ValueError(
                f"{self.name!r} is endless and cannot be shuffled, got seed={seed}; its own configuration takes a seed"
            )
        order = list(self._order)
        random.Random(seed).shuffle(order)
        return TaskSource(self.name, self._read, order, has_questions=self.has_questions)

    def __repr__(self) -> str:
        kind = "tasks" if self.has_questions else "documents without questions"
        return f"<TaskSource {self.name!r}: {'endless' if self._endless else len(self._order)} {kind}>"

    def _item(self, index: int) -> Task | Document:
        place = as_index(index)
        if self._endless and place < 0:
            raise IndexError(f"{self.name!r} is endless and has no task {place} from its end")
        try:
            return self._read(self._order[place])
        except IndexError:
            raise IndexError(f"{self.name!r} has no task {place}: there are {len(self._order)}") from None

    def _part(self, part: slice) -> TaskSource:
        if self._endless and any(number is not None and number < 0 for number in (part.start, part.stop, part.step)):
            raise ValueError(f"{self.name!r} is endless and cannot be counted from its end, got {part}")
        endless = self._endless and part.stop is None
        return TaskSource(self.name, self._read, self._order[part], endless, self.has_questions)


def load_tasks(
    dataset: str | os.PathLike[str] = ALMANAC,
    split: str = "train",
    *,
    seed: int | None = None,
    offset: int = 0,
    limit: int | None = None,
    almanac: AlmanacConfig | None = None,
    columns: Mapping[str, str] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    passage_words: int = PASSAGE_WORDS,
) -> TaskSource:
    """The tasks of a data set.

    Args:
        dataset: one of
            - ``almanac``: ``seal_env.tasks.almanac``, endless;
            - a path to SQuAD 1.1 or 2.0 JSON, to a JSON list of ``{title, context, questions: [{question, answer}]}``, or to a
              file of JSON lines (.jsonl, .ndjson, .json), .csv, .tsv or .parquet of such records or of SQuAD's flat rows
              (``seal_env.tasks.squad`` has the details);
            - a path to a folder of .txt, .md and .markdown documents, or to one of them, with questions beside them or without
              (``seal_env.tasks.folder``); ``has_questions`` of the source says which;
            - a path to a folder of tables, without documents, that ``datasets`` reads (or wrote with ``save_to_disk``);
            - a hub id such as ``rajpurkar/squad``, read with ``datasets.load_dataset`` from its cache or the network.

            What exists as a file or folder is a path (write ``./almanac`` for a folder of that name).
        split: of the Almanac, the hub and folders of tables. A file, or a folder of documents, has no splits and is the one
            that you say it is: all of it is ``train``, ``validation`` or ``test``. ``offset`` and ``limit`` hold a part out.
        seed: shuffle as ``random.seed(seed); random.shuffle(tasks)`` does; None: the order of the file. The Almanac is shuffled
            by its own ``AlmanacConfig(seed=...)``.
        offset: leave out that many tasks, after shuffling.
        limit: at most that many tasks, after shuffling.
        almanac: what the Almanac is made of.
        columns: of tables and lists, what a key of ours is called there: ``{"context": "passage", "answer": "short_answer"}``.
        config_name: of a hub data set that has several configurations.
        revision: of a hub data set: branch, tag or commit.
        passage_words: documents that are longer are cut into passages of about this many words; a character of Chinese,
            Japanese, Thai and other scripts without blanks between words counts as one (``seal_env.tasks.passages``).

    Raises:
        ValueError: one line that names the value and what would work.
    """
    check_part(split, seed, offset, limit)
    check_count("passage_words", passage_words)
    if not isinstance(dataset, str | os.PathLike) or not os.fspath(dataset):
        raise ValueError(f"dataset must be {ALMANAC!r}, a path or a hub id such as 'rajpurkar/squad', got {dataset!r}")
    check_columns(columns)
    options = {"almanac": almanac, "columns": columns, "config_name": config_name, "revision": revision}

    if dataset == ALMANAC:
        _refuse("the Almanac", options, "almanac")
        check_split(split)
        source = TaskSource(ALMANAC, partial(Almanac(almanac).task, split), range(sys.maxsize), endless=True)
    else:
        source = _finite(dataset, split, options, columns, config_name, revision, passage_words)
    return part_of(source, seed, offset, limit)


def check_part(split: object, seed: object, offset: object, limit: object) -> None:
    """Raise a ValueError for what cannot say which tasks of a data set are meant."""
    if not isinstance(offset, int) or offset < 0:
        raise ValueError(f"offset must be an integer >= 0, got {offset!r}")
    if limit is not None:
        check_count("limit", limit)
    if seed is not None and not isinstance(seed, int):
        raise ValueError(f"seed must be an integer or None, got {seed!r}")
    if not isinstance(split, str):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")


def part_of(source: TaskSource, seed: int | None, offset: int, limit: int | None) -> TaskSource:
    """``source``, shuffled if there is a seed, without the first ``offset`` tasks, and at most ``limit`` of them.

    Raises:
        ValueError: nothing is left.
    """
    if seed is not None:
        source = source.shuffled(seed)
    part = source[offset : None if limit is None else offset + limit]
    if not part:
        raise ValueError(f"offset {offset} leaves nothing of {source.name!r}, which has {source.size}")
    return part


def _asked(documents: TaskSource, ask: Callable[[Document], Task], index: int) -> Task:
    return ask(documents.document(index))


def _finite(
    dataset: str | os.PathLike[str],
    split: str,
    options: Mapping[str, object],
    columns: Mapping[str, str] | None,
    config_name: str | None,
    revision: str | None,
    passage_words: int,
) -> TaskSource:
    path = Path(os.path.expanduser(dataset))
    if not os.path.exists(path):
        name = os.fspath(dataset)
        if not isinstance(dataset, str) or not _HUB_ID.fullmatch(name) or path.suffix.lower() in _FILES:
            raise ValueError(nothing_there(name, path))
        _refuse(f"the hub data set {name!r}", options, "columns", "config_name", "revision")
        return _from_datasets(name, name, split, columns, config_name, revision)
    if path.is_dir() and _holds_tables(path):
        _refuse(f"the folder {str(path)!r}", options, "columns", "config_name")
        return _from_datasets(str(path), path.resolve().name, split, columns, config_name, None)
    check_split(split)
    if path.is_dir() or path.suffix.lower() in DOCUMENTS:
        _refuse(f"documents ({str(path)!r})", options)
        items = read_documents(path, passage_words)
        if not items:
            kinds = f"no document ({', '.join(DOCUMENTS)}) and no table ({', '.join(('.json', *TABLES))})"
            raise ValueError(f"{str(path)!r} holds {kinds}")
        tasks = [item for item in items if isinstance(item, Task)]
        name = path.resolve().name
        return source_of(name, numbered(tasks, name) if tasks else items)
    if path.suffix.lower() not in _FILES:
        raise ValueError(f"{str(path)!r} is of no kind that is read here: {', '.join(_FILES)}, or a folder of these")
    _refuse(f"the file {str(path)!r}", options, "columns")
    return source_of(path.stem, numbered(_from_file(path, columns), path.stem))


def _from_file(path: Path, columns: Mapping[str, str] | None) -> list[Task]:
    hint = " (say columns={ours: yours} if yours is called otherwise)"
    names = (columns or {}).values()
    records = read_records(path, names) if path.suffix.lower() in TABLES else read_json_records(path)
    if isinstance(records, Mapping) and "data" not in records and records.keys() & {"context", "question", *names}:
        records = [(str(path), records)]  # a single JSON line
    if isinstance(records, list):
        return from_records(records, str(path), columns, hint)
    if not isinstance(records, Mapping):
        raise ValueError(f"{path} holds neither SQuAD's 'data' nor a list of passages, but {str(records)[:80]!r}")
    if columns:
        raise ValueError(f"columns are of tables and lists, and {path} is in SQuAD's own layout, got columns={dict(columns)!r}")
    return from_squad(records, str(path))


def _from_datasets(
    dataset: str, name: str, split: str, columns: Mapping[str, str] | None, config_name: str | None, revision: str | None
) -> TaskSource:
    rows = read_dataset(dataset, split, config_name, revision, (columns or {}).values())
    hint = " (say columns={ours: theirs} if theirs is called otherwise)"
    return source_of(name, numbered(from_records(rows, dataset, columns, hint), f"{name}-{split}"))


def source_of(name: str, items: Sequence[Task] | Sequence[Document]) -> TaskSource:
    """These items, at least one, in their order."""
    return TaskSource(name, items.__getitem__, range(len(items)), has_questions=isinstance(items[0], Task))


def _holds_tables(folder: Path) -> bool:
    """Whether ``folder`` is a data set of tables and not one of documents."""
    if any(path.stem.lower() not in _NO_DOCUMENTS for path in document_files(folder)):
        return False
    return any(path.suffix.lower() in (".json", *TABLES) and not is_questions(path) for path in visible_files(folder))


def _refuse(what: str, options: Mapping[str, object], *allowed: str) -> None:
    for name, value in options.items():
        if value is not None and name not in allowed:
            raise ValueError(f"{name} does not apply to {what}, got {name}={value!r}")


def check_split(split: str) -> None:
    """Raise a ValueError unless ``split`` is one of those that procedural data sets, files and folders have."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.{did_you_mean(split, SPLITS)}")


def nothing_there(name: str, path: Path) -> str:
    """What to say of a data set that does not exist."""
    if path.parent == Path() and not path.suffix:
        known = {known.lower(): known for known in (*os.listdir(), ALMANAC)}
        close = get_close_matches(name.lower(), known, n=1)
        hint = f" Did you mean {known[close[0]]!r}?" if close else ""
        return f"no data set {name!r}.{hint} There are {ALMANAC!r}, paths, and hub ids such as 'rajpurkar/squad'"
    if not os.path.isdir(path.parent):
        return f"no file or folder {name!r}: there is no folder {str(path.parent)!r}"
    beside = get_close_matches(path.name, sorted(os.listdir(path.parent)), n=1)
    return f"no file or folder {name!r}." + (f" Did you mean {str(path.parent / beside[0])!r}?" if beside else "")
