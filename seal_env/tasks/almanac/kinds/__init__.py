"""The kinds of things that the Almanac writes about: one TOML file per kind, ``kinds/NAME.toml``.

To add a kind, add a file: ``AlmanacConfig(kinds=("NAME",))`` then writes about it. The default kinds, which the bundled student
was trained on, stay. The keys of the file are the attributes of ``facts.Kind``, and those of each ``[relations.NAME]`` are the
attributes of ``facts.Relation``: see ``ship.toml`` and ``person.toml``. ``validate.wording_problems`` checks the wordings.

``titles`` is a list of patterns with ``{}`` for an invented word, or ``"person"`` or ``"firm"``. A draw (``draw`` and
``rival_name``) is a function of ``values`` with its arguments, such as ``draw.year = [1600, 1880]`` or ``draw = "person"``.
``draw.word`` and ``draw.pair`` take words, or the name of a list in ``words.toml``.

A relation (the year a ship was launched) has four sets of wordings. ``statements`` and ``questions`` are plain and name the
thing in full; ``tells`` and ``hints`` occur in passages only, so that a student must learn facts and not sentences:

- ``{t}`` is the thing's name (with "the" where it takes one), ``{v}`` the value, ``{av}`` the value after "a" or "an".
- In narration ``{s}``, ``{o}`` and ``{p}`` are the thing as subject, object and possessor; the narrator picks a pronoun or a
  noun phrase for the first of them, and pronouns for the others.
- ``"... took to the water in {v}"`` is a predicate: a subject goes before it. It has no comma.
- ``"built at {v}, ..."`` is an opener: a sentence about the thing follows it.
- ``", the work of {v}, ..."`` is an apposition: it goes between subject and predicate.
- Everything else is a complete clause, without capital and full stop, which the narrator adds.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from seal_env.checks import brief, check_choice, check_names, did_you_mean
from seal_env.tasks.almanac.facts import Draw, Kind, Relation
from seal_env.tasks.almanac.names import Names, TitleSpace
from seal_env.tasks.almanac.values import DRAWS

FOLDER = Path(__file__).parent
_T = TypeVar("_T", Kind, Relation)


def kind_names() -> list[str]:
    """The names of all kinds, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def load_kind(name: str) -> Kind:
    """The kind of this name, one of ``kind_names()``.

    Raises:
        ValueError: there is no such kind, or its file is wrong.
    """
    check_choice("kind", name, kind_names())
    return read_kind(FOLDER / f"{name}.toml")


def read_kind(path: Path) -> Kind:
    """Read a kind from its TOML file.

    Raises:
        ValueError: the file is no TOML, or a key is unknown, missing or has a wrong value. The message names file and key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    kind = _build(Kind, path.stem, table, str(path))
    for earlier, later, _, _ in kind.gaps:
        for name in (earlier, later):
            check_choice(f"{path}: gaps: a relation", name, [relation.name for relation in kind.relations])
    return kind


def _build(cls: type[_T], name: str, table: Any, where: str) -> _T:
    """An instance of the dataclass ``cls`` from a table with its attributes."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table, got {brief(table)}")
    attributes = {field.name: field for field in fields(cls) if field.name != "name"}
    check_names(where, table, list(attributes))
    for key, field in attributes.items():
        if key not in table and field.default is MISSING:
            raise ValueError(f"{where}: key {key!r} is missing")
    values = {key: _READERS[str(attributes[key].type)](value, f"{where}: {key}") for key, value in table.items()}
    return cls(name=name, **values)


def _draw(value: Any, where: str) -> Draw:
    """A draw from its name, or from a table of its name and arguments."""
    call = {value: []} if isinstance(value, str) else value
    if not isinstance(call, dict) or len(call) != 1:
        raise ValueError(f"{where} must be the name of a draw or a table of one draw, got {brief(value)}")
    ((name, arguments),) = call.items()
    if name not in DRAWS:
        raise ValueError(f"{where}: no draw {name!r}.{did_you_mean(name, DRAWS)} There are: {', '.join(DRAWS)}")
    try:
        draw = DRAWS[name](*(arguments if isinstance(arguments, list) else [arguments]))
        draw(random.Random(0), Names("train"))  # a wrong argument shows here
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"{where}.{name}: {error}, got {brief(arguments)}") from error
    return draw


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{where} must be a list of strings, got {brief(value)}")
    return tuple(value)


def _titles(value: Any, where: str) -> TitleSpace:
    if isinstance(value, str):
        check_choice(where, value, ("person", "firm"))
    return TitleSpace((value,) if isinstance(value, str) else _texts(value, where))


def _relations(value: Any, where: str) -> tuple[Relation, ...]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be tables [relations.NAME], got {brief(value)}")
    return tuple(_build(Relation, name, table, f"{where}.{name}") for name, table in value.items())


def _gaps(value: Any, where: str) -> tuple[tuple[str, str, int, int], ...]:
    gaps = value if isinstance(value, list) else [value]
    if not all(isinstance(gap, list) and [*map(type, gap)] == [str, str, int, int] for gap in gaps):
        raise ValueError(f"{where} must be a list of [earlier, later, least, most], got {brief(value)}")
    return tuple(map(tuple, gaps))


def _scalar(type_: type, noun: str) -> Callable[[Any, str], Any]:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, type_):
            raise ValueError(f"{where} must be {noun}, got {brief(value)}")
        return value

    return read


_READERS: dict[str, Callable[[Any, str], Any]] = {  # by the annotation of an attribute
    "str": _scalar(str, "a string"),
    "bool": _scalar(bool, "true or false"),
    "tuple[str, ...]": _texts,
    "Draw": _draw,
    "TitleSpace": _titles,
    "tuple[Relation, ...]": _relations,
    "tuple[tuple[str, str, int, int], ...]": _gaps,
}
