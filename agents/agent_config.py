"""Hyperparameters of agents: checks of their config dataclasses, and presets for models and domains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seal_env.checks import check_at_least, check_choice


@dataclass(frozen=True)
class NoConfig:
    """Config of agents without hyperparameters."""


@dataclass(frozen=True)
class Preset:
    """Hyperparameters that were chosen for one model or domain.

    Attributes:
        values: fields of the agent's ``Config`` that differ from their defaults.
        tuned_on: number of scored edits spent on choosing them, including those of rejected settings; None if unknown.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    tuned_on: int | None = None


def check_config(config: Any, **minimums: float) -> None:
    """Check the fields of a config dataclass against their annotations, and some against a minimum.

    Call it from ``__post_init__``: ``check_config(self, contexts=1, num_generations=2)``. Annotations may be ``int``,
    ``float``, ``str``, ``bool``, a ``Literal``, or one of the first four ``| None``.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field is below its minimum, not a finite number (``max_grad_norm`` may be infinite), or not among the
            choices of its ``Literal``.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal:
            check_choice(name, value, get_args(hint))
        elif not any(_has_type(value, kind) for kind in get_args(hint) or (hint,)):
            expected = hint.__name__ if isinstance(hint, type) else hint
            raise TypeError(f"{type(config).__name__}: {name} must be of type {expected}, got {value!r}")
        elif isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and name != "max_grad_norm")):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        elif name in minimums and value is not None:
            check_at_least(name, value, minimums[name])


def _has_type(value: object, kind: type) -> bool:
    if kind in (int, float):  # a numpy number is one, a bool is none
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind)
