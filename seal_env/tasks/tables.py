"""Reading files and hub data sets into records (``seal_env.tasks.squad`` makes tasks of them).

Whether a file holds JSON lines or one JSON value is seen from what it holds, whatever its name. CSV goes through pandas and
Parquet through pyarrow, as in ``datasets``, but every CSV cell stays text: an answer ``007`` or ``NA`` is what it says. What
separates the cells (a comma, a semicolon, a tab or a bar) is seen from the header. Hub data sets and folders of tables go
through ``datasets``; code of a data set is never run.
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

from seal_env.tasks.record_checks import numbered_items
from seal_env.tasks.squad import KEYS, MARKS

_JSON_LINES = (".jsonl", ".ndjson")
TABLES = (*_JSON_LINES, ".csv", ".tsv", ".parquet")
_SEPARATORS = ",;\t|"
_ELSEWHERE = "; nothing here has that name either. What works offline: a path to a file, or a data set in the cache (HF_HOME)"
Record = tuple[str, Any]  # where it stands, and the record


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
    """The records of a JSON list or of JSON lines; any other JSON value as it is. ``word`` is what an item is called."""
    text = read_text(path)
    lines = text.split("\n")  # and not splitlines(): U+2028 and others may stand in a JSON string
    numbered = [(f"{path}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()]
    if _are_json_lines(path, [line for _, line in numbered]):
        return [(where, _parsed(line, where)) for where, line in numbered]
    value = _parsed(text, str(path))
    return list(numbered_items(value, str(path), word)) if isinstance(value, list) else value


def read_records(path: Path, names: Iterable[str] = ()) -> list[Record]:
    """The rows of a file of one of the kinds in ``TABLES``.

    Args:
        path: the file.
        names: what columns may be called besides ``KEYS``, by which the header of CSV is recognized.
    """
    kind = path.suffix.lower()
    if kind in _JSON_LINES:
        return read_json_records(path)
    return _parquet(path) if kind == ".parquet" else _csv(path, {*KEYS, *MARKS, *names})


def read_dataset(
    dataset: str, split: str, config_name: str | None, revision: str | None, columns: Iterable[str]
) -> list[Record]:
    """The rows of a hub data set, or of a local folder that ``datasets`` can load."""
    try:
        rows = _load_dataset(dataset, split, config_name, revision)
        wanted = {*KEYS, *MARKS, *columns}
        rows = rows.select_columns([name for name in rows.column_names if name in wanted] or rows.column_names).to_list()
    except Exception as error:  # datasets, huggingface_hub and the network have some twenty kinds between them
        said = str(error) or type(error).__name__
        said += f" ({error.__cause__})" if error.__cause__ else ""
        reason = " ".join(said.split())[:300]
        elsewhere = "" if Path(dataset).exists() else _ELSEWHERE
        raise ValueError(f"cannot load split {split!r} of {dataset!r}: {reason}{elsewhere}") from error
    return [(f"{dataset}, row {i}", row) for i, row in enumerate(rows, 1)]


def _load_dataset(dataset: str, split: str, config_name: str | None, revision: str | None) -> Any:
    import datasets

    if Path(dataset, "state.json").is_file():  # written by Dataset.save_to_disk, which knows no splits
        return datasets.load_from_disk(dataset)
    if Path(dataset, "dataset_dict.json").is_file():
        return datasets.load_from_disk(os.path.join(dataset, split))
    return datasets.load_dataset(dataset, config_name, split=split, revision=revision, trust_remote_code=False)


def _are_json_lines(path: Path, lines: list[str]) -> bool:
    """Whether these lines, without blank ones, are a JSON value each: by the file's name or by what they hold."""
    if not lines:
        return path.suffix.lower() in _JSON_LINES
    if lines[0].lstrip().startswith("["):
        return False
    if path.suffix.lower() in _JSON_LINES:
        return True
    # Of a value that goes over several lines, the first line alone is none, and not every line begins an object.
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
    rows = [(f"{path}, row {i}", row) for i, row in enumerate(table.to_dict("records"), 1)]
    return [(where, _unfolded(row, where)) for where, row in rows]


def _separator(text: str, names: Collection[str]) -> str:
    """What separates the cells: by which the header has most of the known names, and then most names at all."""

    def fit(separator: str) -> tuple[int, int]:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        except csv.Error:  # a quotation mark that is never closed
            return 0, 0
        return len({name.strip() for name in header} & set(names)), len(header)

    return max(_SEPARATORS, key=fit)


def _parquet(path: Path) -> list[Record]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not Parquet: {' '.join(str(error).split())}") from error
    return [(f"{path}, row {i}", row) for i, row in enumerate(rows, 1)]


def _unfolded(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A CSV row with its lists, which a cell holds as JSON or as Python shows them; an empty cell of those is nothing."""
    unfolded = dict(row)
    for key in row.keys() & {"answers", "questions"}:
        cell = str(row[key])
        if not cell:
            unfolded[key] = None
        elif cell.lstrip().startswith(("[", "{")):
            try:
                unfolded[key] = json.loads(cell)
            except ValueError:
                unfolded[key] = _shown(cell, f"{where}: {key}")
    return unfolded


class _WithoutArrays(ast.NodeTransformer):
    """``array([...], dtype=object)``, as ``Dataset.to_csv`` writes a list, becomes the list."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return node.args[0] if isinstance(node.func, ast.Name) and node.func.id == "array" and node.args else node


def _shown(cell: str, where: str) -> Any:
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
        return json.loads(text, strict=False)  # control characters may stand in strings
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise ValueError(f"{where} is not JSON: {error.msg} ({place})") from error
    except RecursionError as error:
        raise ValueError(f"{where} is not JSON that can be read: it is nested too deep") from error
    except ValueError as error:  # a number with more digits than Python reads
        raise ValueError(f"{where} is not JSON that can be read: {error}") from error
