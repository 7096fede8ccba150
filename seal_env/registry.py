"""How things are found by name: one mechanism for datasets, formats, graders, rewards, optimizers, domains and agents.

GRADERS: Registry[Grader] = Registry("grader", group="seal_env.graders")
GRADERS.register("exact", "seal_env.evaluation.graders.text_match:exact_grader", "equal to an accepted answer")

GRADERS.get("exact")              # a registered name
GRADERS.get("my_package.x:grade") # package.module:object
GRADERS.get(my_grader)            # the object itself
GRADERS.get("their-grader")       # an entry point of an installed package, of the group seal_env.graders

A registered target may be the path of an object, which is imported when it is asked for: naming it costs no import.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from seal_env.checks import did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One row of a registry.

    Attributes:
        name: what it is registered under.
        target: the object, or the path ``package.module:object`` that it is imported from.
        description: one line for a listing.
    """

    name: str
    target: Any
    description: str = ""


class Registry(Generic[T]):
    """Objects of one kind by name, by import path, as they are, or from the entry points of other packages.

    Args:
        kind: what the objects are, in errors: ``"grader"``.
        group: entry-point group in which installed packages add their own.
        check: whether an object that was found is of this kind; it returns what is wrong, or an empty string.
    """

    def __init__(self, kind: str, group: str, check: Callable[[Any], str] = lambda target: "") -> None:
        self.kind = kind
        self.group = group
        self._check = check
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, target: T | str, description: str = "") -> None:
        """Add a row.

        Args:
            name: to find it by; without a colon, which paths have.
            target: the object, or its path ``package.module:object``.
            description: one line for a listing.

        Raises:
            ValueError: the name is empty, holds a colon or is taken, or ``target`` is not of this kind.
        """
        if not isinstance(name, str) or not name.strip() or ":" in name:
            raise ValueError(f"the name of a {self.kind} must be a non-empty string without a colon, got {name!r}")
        if name in self._entries:
            raise ValueError(f"the {self.kind} {name!r} exists already; register yours under another name")
        if not isinstance(target, str) and (problem := self._check(target)):
            raise ValueError(f"{self.kind} {name!r} {problem}")
        self._entries[name] = Entry(name, target, description)

    def names(self) -> list[str]:
        """Registered names in the order of registration, then those of installed packages, sorted."""
        return [*self._entries, *sorted(point.name for point in self._points() if point.name not in self._entries)]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or any(point.name == name for point in self._points())

    def entries(self) -> Iterator[Entry]:
        """The rows of :meth:`names`, those of installed packages with the path that they name."""
        yield from self._entries.values()
        for point in sorted(self._points(), key=lambda point: point.name):
            if point.name not in self._entries:
                yield Entry(point.name, _path(point), f"of the package {point.dist.name}" if point.dist else "")

    def get(self, key: str | T) -> T:
        """The object: by name, by path, or ``key`` itself where that is no string.

        Raises:
            ValueError: there is none, it cannot be imported, or it is not of this kind; the closest name is suggested.
        """
        target: Any = self._target(key) if isinstance(key, str) else key
        if isinstance(target, str):
            target = import_object(self.kind, str(key), target)
        if problem := self._check(target):
            raise ValueError(f"{self.kind} {key!r} {problem}")
        return target

    def _target(self, name: str) -> Any:
        """What is registered under ``name``, or the path to import."""
        if name in self._entries:
            return self._entries[name].target
        if ":" in name:
            return name
        for point in self._points():
            if point.name == name:
                return _path(point)
        raise ValueError(self.unknown(name))

    def unknown(self, key: object) -> str:
        """What to say of a name that is not registered."""
        names = self.names()
        return (
            f"no {self.kind} {key!r}.{did_you_mean(key, names)} There are: {', '.join(names)}; or give 'package.module:object'"
        )

    def path_of(self, key: str | T) -> str:
        """A string by which another process, or a configuration that is saved, finds the same object.

        Raises:
            ValueError: ``key`` is an object that no import leads to, such as a lambda or a local function.
        """
        if isinstance(key, str):
            return key
        for entry in self._entries.values():
            if entry.target is key:
                return entry.name
        module, name = getattr(key, "__module__", None), getattr(key, "__qualname__", None)
        if module and name and module != "__main__" and "<" not in name:
            return f"{module}:{name}"
        raise ValueError(
            f"the {self.kind} {key!r} cannot be saved or sent to another process: define it in a module and name it"
            " 'package.module:object'"
        )

    def _points(self) -> list[EntryPoint]:
        return list(entry_points(group=self.group))


def _path(point: EntryPoint) -> str:
    return f"{point.module}:{point.attr}"


def import_object(kind: str, key: str, path: str) -> Any:
    """The object at ``package.module:object``; ``kind`` and ``key`` are what errors call it.

    Raises:
        ValueError: it cannot be imported.
    """
    module, _, attributes = path.partition(":")
    try:
        target = importlib.import_module(module)
        for attribute in attributes.split("."):
            target = getattr(target, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{kind} {key!r} cannot be imported: {error}") from error
    return target
