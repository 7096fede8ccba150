"""Where a self-edit is cut: from one text to the segments that are learnt one by one.

The rules are SEAL's. What they leave open was settled by the self-edits that its authors recorded; each such decision is a
comment here. The functions take any text, in time linear in its length, and return stripped segments, none of them empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

SEPARATOR = "---"

_QUESTION = re.compile(r"Question \d+:")
_BEFORE_QUESTION = re.compile(r"(?=Question \d+:)")
_IMPLICATIONS = re.compile(r"^[#* \t]*Implications:[* \t]*", re.MULTILINE)  # also as a Markdown heading or in bold


class Splitter(Protocol):
    """How a format cuts a self-edit, see :func:`segments` for the arguments."""

    def __call__(self, text: str, opening: str, split_newlines: bool) -> list[str]: ...


def segments(text: str, opening: str = "", split_newlines: bool = True) -> list[str]:
    """The segments of ``text`` by SEAL's rules.

    The text is split on ``---``. Then, with ``split_newlines``, every non-empty line is a segment, and the first line is
    dropped as a preamble ("Here are three rewrites:") where the second begins with ``1.``; but a text that holds both
    ``Question n:`` and ``Answer:`` is split before each ``Question n:`` instead, so that questions stay with their answers.

    Args:
        text: the self-edit.
        opening: what the prompt already wrote of the edit's first line ("Question 1: "), given back to the first question.
        split_newlines: False leaves the pieces between separators whole.
    """
    # Wherever it stands, "---" separates: the records have it on lines of its own and inside the rules of Markdown tables.
    pieces = text.split(SEPARATOR)
    if not split_newlines:
        return _stripped(pieces)
    # "Answer:" is meant literally. Most recorded self-qa edits number their answers ("Answer 1:") and so are learnt line by
    # line, a question apart from its answer, as the authors' rules have it; 24 of 250 are split by question.
    if _QUESTION.search(text) and "Answer:" in text:
        pairs = _stripped([pair for piece in pieces for pair in _BEFORE_QUESTION.split(piece)])
        # The self-qa prompt ends in "Question 1: ", so that every recorded edit begins after it; a text that is learnt line
        # by line does not get it back.
        if pairs and not pairs[0].startswith("Question"):
            pairs[0] = opening + pairs[0]
        return pairs
    # Indentation and trailing blanks go, list markers and numbers ("1. ") stay: no rule takes them away.
    lines = _stripped([line for piece in pieces for line in piece.splitlines()])
    # "Line 2" counts non-empty lines of the whole edit: recorded preambles are followed by an empty line or by "---".
    if len(lines) > 1 and lines[1].startswith("1."):
        del lines[0]
    return lines


def segments_after_thoughts(text: str, opening: str = "", split_newlines: bool = True) -> list[str]:
    """As :func:`segments`, of what follows the first line that begins with ``Implications:``; of all where none does."""
    heading = _IMPLICATIONS.search(text)
    return segments(text[heading.end() :] if heading else text, opening, split_newlines)


def pairs_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Questions and answers as a self-edit that :func:`segments` cuts into one segment a pair."""
    return "\n".join(f"Question {i}: {question}\nAnswer: {answer}" for i, (question, answer) in enumerate(pairs, 1))


def _stripped(pieces: list[str]) -> list[str]:
    return [piece for piece in map(str.strip, pieces) if piece]
