"""How datasets, edit formats, graders, rewards, proxies, optimizers, domains and agents are found by name.

GRADERS: Registry[Grader] = Registry("grader", "seal_env.graders", check=callable_problem)
GRADERS.register("judge", "seal_env.evaluation.graders.judge:Judge", "a model behind an endpoint grades")

GRADERS.get("judge")              # a registered name
GRADERS.get("my_package.x:grade") # package.module:object
GRADERS.get(my_grader)            # the object itself
GRADERS.get("their-grader")       # an entry point in the group seal_env.graders of an installed package
GRADERS.create("judge", {"model": "gpt-4.1"})  # the same, with options

A target that is registered as a path is imported when it is asked for, so that registering it costs no import.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from seal_env.checks import check_names, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One row of a registry.

    Attributes:
        name: the name it is registered under.
        target: the object, or the path ``package.module:object`` that it is imported from.
        description: one line for a listing.
        package: the installed package whose entry point this is; empty for registered names.
    """

    name: str
    target: Any
    description: str = ""
    package: str = ""


@dataclass(frozen=True)
class NamedFunction:
    """A function with the name that errors call it, and with keywords that it gets in every call."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments, **self.options)


def name_of(target: Any) -> str:
    """The name of a function or other object in errors: the one a user gave, else where it (or its class) is defined."""
    if isinstance(target, NamedFunction):
        return target.name
    defined = target if hasattr(target, "__qualname__") else type(target)
    return f"{defined.__module__}:{defined.__qualname__}"


def callable_problem(target: object) -> str:
    """The ``check`` of a registry of functions."""
    return "" if callable(target) else f"is not callable: {target!r}"


class Registry(Generic[T]):
    """Objects of one kind by name, by import path, as they are, or from the entry points of other packages.

    Args:
        kind: what the objects are, in errors: ``"grader"``.
        group: entry-point group in which installed packages add their own.
        check: returns what is wrong with an object of another kind, such as ``"is not callable"``, else an empty string.
    """

    def __init__(self, kind: str, group: str, check: Callable[[Any], str] = lambda target: "") -> None:
        self.kind = kind
        self.group = group
        self._check = check
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, target: T | str, description: str = "") -> None:
        """Add a row.

        Args:
            name: without a colon, which marks a path.
            target: the object, or its path ``package.module:object``.
            description: one line for a listing.

        Raises:
            ValueError: the name is empty, contains a colon or is taken, or ``target`` is of another kind.
        """
        if not isinstance(name, str) or not name.strip() or ":" in name:
            raise ValueError(f"{self.kind}: the name must be a non-empty string without a colon, got {name!r}")
        if name in self._entries:
            raise ValueError(f"the {self.kind} {name!r} exists already; register yours under another name")
        if not isinstance(target, str) and (problem := self._check(target)):
            raise ValueError(f"{self.kind} {name!r} {problem}")
        self._entries[name] = Entry(name, target, description)

    def names(self) -> list[str]:
        """Registered names in the order of registration, then those of installed packages, sorted."""
        return [entry.name for entry in self.entries()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._entries or name in self._points())

    def entries(self) -> list[Entry]:
        """The rows of :meth:`names`; the target of an installed package's row is the path that its entry point names."""
        added = [
            Entry(name, _path(point), f"from the package {package}", package)
            for name, point in sorted(self._points().items())
            for package in [point.dist.name if point.dist else "?"]
            if name not in self._entries
        ]
        return [*self._entries.values(), *added]

    def get(self, key: str | T) -> T:
        """The object: by name, by path, or ``key`` itself if it is no string.

        Raises:
            ValueError: there is no such object, it cannot be imported, or it is of another kind.
        """
        target: Any = self._target(key) if isinstance(key, str) else key
        if isinstance(target, str):
            target = import_object(self.kind, str(key), target)
        if problem := self._check(target):
            there_are = "" if isinstance(key, str) else f". There are: {', '.join(self.names())}"
            raise ValueError(f"{self.kind} {key!r} {problem}{there_are}")
        return target

    def create(self, key: str | T, options: Mapping[str, Any] | None = None, name: str = "") -> Any:
        """The object with ``options``, which are checked against its signature.

        A class is instantiated with them as keywords. A function gets them as keywords in every call, after the arguments
        that it is called with; the first parameter is such an argument and no option.

        Args:
            key: see :meth:`get`.
            options: keywords.
            name: what errors call the object; by default ``key`` or where the object is defined.

        Raises:
            ValueError: as :meth:`get`; it has no such option, or lacks one without a default.
        """
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"{self.kind}_options must be a dictionary, got {options!r}")
        target, options = self.get(key), dict(options or {})
        name = name or (key if isinstance(key, str) else name_of(target))
        parameters = _option_parameters(target)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            check_names(f"{self.kind} {name!r}", options, [parameter.name for parameter in parameters])
        for parameter in parameters:
            needed = parameter.name
            if needed not in options and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
                raise ValueError(f"{self.kind} {name!r} needs {needed}: {self.kind}_options={{{needed!r}: ...}}")
        if isinstance(target, type):
            return target(**options)
        return NamedFunction(name, target, options) if options or isinstance(key, str) else target  # type: ignore[arg-type]

    def _target(self, name: str) -> Any:
        """What is registered under ``name``, or the path to import."""
        if name in self._entries:
            return self._entries[name].target
        if ":" in name:
            return name
        if point := self._points().get(name):
            return _path(point)
        raise ValueError(self.unknown(name))

    def unknown(self, key: object, also: Iterable[str] = (), more: str = "'package.module:object'") -> str:
        """The message for a name that is not registered.

        Args:
            key: the name.
            also: further names that may have been meant.
            more: what else may be given.
        """
        names = self.names()
        hint = did_you_mean(key, [*names, *also])
        return f"no {self.kind} {key!r}.{hint} There are: {', '.join(names)}; or give {more}"

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
        if module and name and module != "__main__":
            imported = sys.modules.get(module)
            for attribute in name.split("."):
                imported = getattr(imported, attribute, None)
            if imported is key:
                return f"{module}:{name}"
        raise ValueError(
            f"the {self.kind} {key!r} cannot be saved or sent to another process: define it in a module and name it"
            " 'package.module:object'"
        )

    def _points(self) -> dict[str, EntryPoint]:
        """Entry points by name; of two packages that use the same name, the first on the path counts."""
        return _entry_points(self.group, tuple(sys.path))


@functools.cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Entry points by name, as long as the import path stays: looking through all installed packages takes 20 ms."""
    return {point.name: point for point in reversed(list(entry_points(group=group)))}


def _path(point: EntryPoint) -> str:
    return point.value.partition("[")[0].replace(" ", "")  # not point.module, which raises for a malformed value


def _option_parameters(target: Any) -> list[inspect.Parameter]:
    """The parameters that can be options: those of a class, and those of a function after its first."""
    try:
        # Not of a function that it wraps: what is called is the wrapper.
        parameters = list(inspect.signature(target, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):  # written in C: its own call checks
        return [inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)]
    parameters = parameters if isinstance(target, type) else parameters[1:]
    return [parameter for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL]


def import_object(kind: str, key: str, path: str) -> Any:
    """The object at ``package.module:object``; errors call it ``kind`` and ``key``.

    Raises:
        ValueError: it cannot be imported.
    """
    module, _, attributes = path.partition(":")
    try:
        target = importlib.import_module(module)
        for attribute in attributes.split("."):
            target = getattr(target, attribute)
    except Exception as error:  # whatever the code of a module raises
        named = "" if path == key else f" from {path!r}"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{kind} {key!r} cannot be imported{named}: {reason}") from error
    return target
