"""Datasets in files, folders and on the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seal_env.checks import check_count
from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS, document_files, is_questions, read_documents, visible_files
from seal_env.tasks.records import from_records, from_squad, numbered
from seal_env.tasks.sources import FILES, TaskSource, check_split, source_of
from seal_env.tasks.tables import TABLES, read_dataset, read_json_records, read_records
from seal_env.tasks.task import Task

_SQUAD = "rajpurkar/squad"
_NO_DOCUMENTS = ("readme", "license", "licence")  # which folders of tables contain, too


def load_path(
    split: str,
    *,
    path: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    config_name: str | None = None,
    passage_words: int = PASSAGE_WORDS,
) -> TaskSource:
    """The dataset in a file or folder.

    Args:
        split: of a folder of tables; a file or a folder of documents has no splits and is the same for ``train``,
            ``validation`` and ``test``.
        path: one of
            - SQuAD 1.1 or 2.0 JSON, a JSON list of ``{title, context, questions: [{question, answer}]}``, or a file of JSON
              lines (.jsonl, .ndjson, .json), .csv, .tsv or .parquet of such records or of SQuAD's flat rows
              (``seal_env.tasks.records``);
            - a folder of .txt, .md and .markdown documents, or one document, with questions beside them or without
              (``seal_env.tasks.folder``); ``has_questions`` of the source tells which;
            - a folder of tables without documents, which ``datasets`` can load or wrote with ``save_to_disk``.
        columns: the names of columns that differ from ours: ``{"context": "passage", "answer": "short_answer"}``.
        config_name: of a folder of tables with several configurations.
        passage_words: longer documents are cut into passages of about this many words; a character of Chinese, Japanese, Thai
            and other scripts without blanks between words counts as one word (``seal_env.tasks.passages``).

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    path = Path(path)
    check_count("passage_words", passage_words)
    if path.is_dir() and _holds_tables(path):
        return _from_datasets(str(path), path.resolve().name, split, columns, config_name, None)
    check_split(split)
    options = {"columns": columns, "config_name": config_name}
    if path.is_dir() or path.suffix.lower() in DOCUMENTS:
        _refuse(f"documents ({str(path)!r})", options)
        items = read_documents(path, passage_words)
        if not items:
            kinds = f"no document ({', '.join(DOCUMENTS)}) and no table ({', '.join(('.json', *TABLES))})"
            raise ValueError(f"{str(path)!r} holds {kinds}")
        tasks = [item for item in items if isinstance(item, Task)]
        name = path.resolve().name
        return source_of(name, numbered(tasks, name) if tasks else items)
    if path.suffix.lower() not in FILES:
        raise ValueError(f"{str(path)!r} has none of the endings that can be read: {', '.join(FILES)}, and is no folder")
    _refuse(f"the file {str(path)!r}", {"config_name": config_name})
    return source_of(path.stem, numbered(_from_file(path, columns), path.stem))


def load_hub(
    split: str,
    *,
    path: str,
    columns: Mapping[str, str] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
) -> TaskSource:
    """A dataset of the hub, from the cache of ``datasets`` or the network.

    Args:
        split: one of the dataset's.
        path: the id, such as ``rajpurkar/squad``.
        columns: see :func:`load_path`.
        config_name: of a dataset with several configurations.
        revision: branch, tag or commit.

    Raises:
        ValueError: it cannot be loaded, or its rows cannot be read.
    """
    return _from_datasets(path, path, split, columns, config_name, revision)


def load_squad(split: str) -> TaskSource:
    """SQuAD 1.1's development set: 2,067 passages, from which SEAL takes its evaluation set (``held_out`` of the environments).

    Args:
        split: the set has no splits and is the same for ``train``, ``validation`` and ``test``.

    Raises:
        ValueError: it is neither in the cache of ``datasets`` nor can it be downloaded.
    """
    check_split(split)
    try:
        return _from_datasets(_SQUAD, "squad", "validation", None, None, None, has_splits=False)
    except ValueError as error:
        raise ValueError(
            f"dataset 'squad' is {_SQUAD} of the hub, which cannot be loaded ({error}); name a file that holds it, such as"
            " dataset='dev-v1.1.json', or take dataset='almanac', which is bundled"
        ) from error


def _from_file(path: Path, columns: Mapping[str, str] | None) -> list[Task]:
    hint = " (say columns={ours: yours} if the name differs)"
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
    dataset: str,
    name: str,
    split: str,
    columns: Mapping[str, str] | None,
    config_name: str | None,
    revision: str | None,
    has_splits: bool = True,
) -> TaskSource:
    rows = read_dataset(dataset, split, config_name, revision, (columns or {}).values())
    hint = " (say columns={ours: theirs} if the name differs)"
    return source_of(name, numbered(from_records(rows, dataset, columns, hint), f"{name}-{split}"), has_splits=has_splits)


def _holds_tables(folder: Path) -> bool:
    """Whether ``folder`` is a dataset of tables and not one of documents."""
    if any(path.stem.lower() not in _NO_DOCUMENTS for path in document_files(folder)):
        return False
    return any(path.suffix.lower() in (".json", *TABLES) and not is_questions(path) for path in visible_files(folder))


def _refuse(what: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} does not apply to {what}, got {name}={value!r}")
