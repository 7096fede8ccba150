"""Checks of what was read from a file: whatever is wrong is a ValueError that says where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any


def value_of(record: Mapping[str, Any], key: str, where: str, hint: str = "") -> Any:
    """``record[key]``; ``hint`` says what to do where it is missing."""
    if key not in record:
        raise ValueError(f"{where}: no key {key!r}, only {keys_of(record)}{hint}")
    return record[key]


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """``value``, which must have keys and values."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected keys and values, got {type(value).__name__}: {str(value)[:80]!r}")
    return value


def listed(value: Any, key: str, where: str) -> list[Any]:
    """``value``, which must be a list; ``key`` is what it is called."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: {key!r} must be a list, got {type(value).__name__}: {str(value)[:80]!r}")
    return value


def numbered_items(items: list[Any], where: str, word: str) -> Iterator[tuple[str, Any]]:
    """Items with the words that say where they stand, counted from 1."""
    return ((f"{where}, {word} {i}", item) for i, item in enumerate(items, 1))


def keys_of(record: Mapping[str, Any]) -> str:
    """The first keys, for a message."""
    shown = [repr(key)[:40] for key in islice(record, 12)]
    return ", ".join([*shown, "..."] if len(record) > len(shown) else shown) or "nothing"
