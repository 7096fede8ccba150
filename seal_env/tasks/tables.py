"""Reads files and ``datasets`` into records (``seal_env.tasks.records`` turns them into tasks).

Whether a file holds JSON lines or one JSON value is detected from its content, whatever its name. pandas reads CSV and pyarrow
reads Parquet, as in ``datasets``, but every CSV cell stays text, so that an answer ``007`` or ``NA`` is kept. The separator of
cells (a comma, a semicolon, a tab or a bar) is detected from the header. ``datasets`` reads hub datasets and folders of tables;
code of a dataset is never run.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from seal_env.tasks.records import FLAGS, KEYS, numbered_items

_JSON_LINES = (".jsonl", ".ndjson")
TABLES = (*_JSON_LINES, ".csv", ".tsv", ".parquet")
_SEPARATORS = ",;\t|"
_OFFLINE = "; no file or folder has that name either. What works offline: a path to a file, or a dataset in the cache (HF_HOME)"
Record = tuple[str, Any]  # its position for errors, and the record


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; line ends stay as they are."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return _parsed(read_text(path), str(path))


def read_json_records(path: Path, word: str = "item") -> list[Record] | Any:
    """The records of a JSON list or of JSON lines, or any other JSON value; errors call an item ``word``."""
    text = read_text(path)
    lines = text.split("\n")  # not splitlines(): a JSON string may contain U+2028
    numbered = [(f"{path}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()]
    if _are_json_lines(path, [line for _, line in numbered]):
        return [(where, _parsed(line, where)) for where, line in numbered]
    value = _parsed(text, str(path))
    return list(numbered_items(value, str(path), word)) if isinstance(value, list) else value


def read_records(path: Path, names: Iterable[str] = ()) -> list[Record]:
    """The rows of a file with one of the endings in ``TABLES``.

    Args:
        path: the file.
        names: names of columns besides ``KEYS``, to recognize the header of CSV by.
    """
    kind = path.suffix.lower()
    if kind in _JSON_LINES:
        return read_json_records(path)
    return _parquet(path) if kind == ".parquet" else _csv(path, {*KEYS, *FLAGS, *names})


def read_dataset(
    dataset: str, split: str, config_name: str | None, revision: str | None, columns: Iterable[str]
) -> list[Record]:
    """The rows of a hub dataset, or of a local folder that ``datasets`` can load."""
    try:
        return rows_of(_load_dataset(dataset, split, config_name, revision), dataset, columns)
    except Exception as error:  # datasets, huggingface_hub and the network have some twenty kinds between them
        message = str(error) or type(error).__name__
        message += f" ({error.__cause__})" if error.__cause__ else ""
        reason = " ".join(message.split())[:300]
        offline = "" if Path(dataset).exists() else _OFFLINE
        raise ValueError(f"cannot load split {split!r} of {dataset!r}: {reason}{offline}") from error


def rows_of(dataset: Any, name: str, columns: Iterable[str]) -> list[Record]:
    """The rows of a ``datasets.Dataset``; columns besides ``KEYS``, ``FLAGS`` and ``columns`` are not read."""
    wanted = {*KEYS, *FLAGS, *columns}
    used = [column for column in dataset.column_names if column in wanted]
    return list(numbered_items(dataset.select_columns(used or dataset.column_names).to_list(), name, "row"))


def _load_dataset(dataset: str, split: str, config_name: str | None, revision: str | None) -> Any:
    import datasets

    if Path(dataset, "state.json").is_file():  # written by Dataset.save_to_disk, which knows no splits
        return datasets.load_from_disk(dataset)
    if Path(dataset, "dataset_dict.json").is_file():
        return datasets.load_from_disk(os.path.join(dataset, split))
    return datasets.load_dataset(dataset, config_name, split=split, revision=revision, trust_remote_code=False)


def _are_json_lines(path: Path, lines: list[str]) -> bool:
    """Whether each of these lines, which are not blank, is a JSON value: by the file's name or by their content."""
    if not lines:
        return path.suffix.lower() in _JSON_LINES
    if lines[0].lstrip().startswith("["):
        return False
    if path.suffix.lower() in _JSON_LINES:
        return True
    # In a value of several lines, the first line alone is no JSON value, and not every line begins an object.
    return len(lines) > 1 and (_is_json(lines[0]) or all(line.startswith("{") for line in lines))


def _csv(path: Path, names: Collection[str]) -> list[Record]:
    import pandas

    text = read_text(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows longer than the header
            table = pandas.read_csv(
                io.StringIO(text), sep=_separator(text, names), dtype=object, na_filter=False, index_col=False
            )
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, pandas.errors.ParserWarning) as error:
        raise ValueError(f"{path} is not CSV with a header: {' '.join(str(error).split())}") from error
    return [(where, _with_lists(row, where)) for where, row in numbered_items(table.to_dict("records"), str(path), "row")]


def _separator(text: str, names: Collection[str]) -> str:
    """The separator of cells: the one by which the header has most of the known names, and then most names at all."""

    def fit(separator: str) -> tuple[int, int]:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        except csv.Error:  # an unclosed quotation mark
            return 0, 0
        return len({name.strip() for name in header} & set(names)), len(header)

    return max(_SEPARATORS, key=fit)


def _parquet(path: Path) -> list[Record]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        return list(numbered_items(pyarrow.parquet.read_table(path).to_pylist(), str(path), "row"))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not Parquet: {' '.join(str(error).split())}") from error


def _with_lists(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A CSV row with the lists that cells hold as JSON or as Python prints them; such a cell that is empty is None."""
    parsed = dict(row)
    for key in row.keys() & {"answers", "questions"}:
        cell = str(row[key])
        if not cell:
            parsed[key] = None
        elif cell.lstrip().startswith(("[", "{")):
            try:
                parsed[key] = json.loads(cell)
            except ValueError:
                parsed[key] = _python_literal(cell, f"{where}: {key}")
    return parsed


class _WithoutArrays(ast.NodeTransformer):
    """Replaces ``array([...], dtype=object)``, which ``Dataset.to_csv`` writes for a list, by the list."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return node.args[0] if isinstance(node.func, ast.Name) and node.func.id == "array" and node.args else node


def _python_literal(cell: str, where: str) -> Any:
    try:
        return ast.literal_eval(_WithoutArrays().visit(ast.parse(cell.strip(), mode="eval")))
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where} must be JSON, got {cell[:80]!r}; plain text belongs in a column named answer") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, strict=False)  # strings may contain control characters
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise ValueError(f"{where} is not JSON: {error.msg} ({position})") from error
    except RecursionError as error:
        raise ValueError(f"{where} is not JSON that can be read: it is nested too deep") from error
    except ValueError as error:  # a number with more digits than Python reads
        raise ValueError(f"{where} is not JSON that can be read: {error}") from error
