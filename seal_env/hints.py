"""What error messages say about a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest of ``known``, to put after a sentence; nothing where none is close."""
    close = get_close_matches(given, list(known), n=1) if isinstance(given, str) else []
    return f" Did you mean {close[0]!r}?" if close else ""
