"""Validation of user input. Errors are one line that names the value and what would work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from numbers import Real
from typing import Any


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the closest of ``known``, to append to a sentence; empty if none is close."""
    names = {name.lower(): name for name in known}
    close = get_close_matches(given.lower(), names, n=1) if isinstance(given, str) else []
    return f" Did you mean {names[close[0]]!r}?" if close else ""


def check_names(where: str, given: Mapping[str, Any], known: list[str]) -> None:
    """Raise a ValueError for the first name in ``given`` that is not ``known``."""
    for name in given:
        if name not in known:
            raise ValueError(f"{where}: no option {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise a ValueError unless ``value`` is one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_count(name: str, value: object) -> None:
    """Raise a ValueError unless ``value`` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a ValueError if ``value`` is less than ``least``."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")


def finite_number(
    value: Any,
    where: str,
    wanted: str = "it must be a finite number",
    least: float = -math.inf,
    most: float = math.inf,
) -> bool | int | float:
    """``value`` as a Python number. Numpy scalars and 0-d arrays and tensors are converted.

    Args:
        value: to convert.
        where: the beginning of the error, before the value, such as ``reward 'own:reward' returned``.
        wanted: the end of the error, after the value: what would work.
        least: smallest accepted number.
        most: largest accepted number.

    Raises:
        ValueError: ``value`` is not a real number, not finite, or out of range.
    """
    try:
        plain = value.item() if getattr(value, "shape", None) == () else value
        # Not float(plain): the item of numpy's masked constant is 0, and its float is NaN.
        number = float(value) if isinstance(plain, (Real, Decimal)) else math.nan
    except (AttributeError, TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and least <= number <= most):
        raise ValueError(f"{where} {brief(value)}; {wanted}")
    return plain if isinstance(plain, int) else number


def brief(value: object) -> str:
    """``repr(value)`` on one line, cut after 80 characters."""
    return " ".join(repr(value).split())[:80]
