"""Split a self-edit into the segments that are trained on.

The rules are SEAL's. Where they are ambiguous, they follow the self-edits that its authors recorded, as comments explain. The
functions take any text, in time linear in its length, and return stripped segments that are not empty.
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
    """Splits a self-edit; see :func:`segments` for the arguments."""

    def __call__(self, text: str, opening: str, split_newlines: bool) -> list[str]: ...


def segments(text: str, opening: str = "", split_newlines: bool = True) -> list[str]:
    """The segments of ``text`` by SEAL's rules.

    The text is split on ``---``. Then, with ``split_newlines``, every non-empty line is a segment, and the first line is
    dropped as a preamble ("Here are three rewrites:") where the second begins with ``1.``; but a text that holds both
    ``Question n:`` and ``Answer:`` is split before each ``Question n:`` instead, so that questions stay with their answers.

    Args:
        text: the self-edit.
        opening: the part of the edit's first line that is in the prompt ("Question 1: "); it is prepended to the first
            question.
        split_newlines: False splits at separators only.
    """
    # "---" separates anywhere: in the records it is on its own line, and in the rules of Markdown tables.
    pieces = text.split(SEPARATOR)
    if not split_newlines:
        return _stripped(pieces)
    # "Answer:" is literal. Most recorded self-qa edits number their answers ("Answer 1:") and are therefore split by line, so
    # that a question is separate from its answer; 24 of 250 are split by question.
    if _QUESTION.search(text) and "Answer:" in text:
        pairs = _stripped([pair for piece in pieces for pair in _BEFORE_QUESTION.split(piece)])
        # The self-qa prompt ends in "Question 1: ", so that every recorded edit begins after it. It is not prepended to a text
        # that is split by line.
        if pairs and not pairs[0].startswith("Question"):
            pairs[0] = opening + pairs[0]
        return pairs
    # Lines are stripped, but list markers and numbers ("1. ") stay.
    lines = _stripped([line for piece in pieces for line in piece.splitlines()])
    # The second non-empty line of the edit: recorded preambles are followed by an empty line or by "---".
    if len(lines) > 1 and lines[1].startswith("1."):
        del lines[0]
    return lines


def segments_after_thoughts(text: str, opening: str = "", split_newlines: bool = True) -> list[str]:
    """As :func:`segments`, of the text after the first line that begins with ``Implications:``, if there is one."""
    heading = _IMPLICATIONS.search(text)
    return segments(text[heading.end() :] if heading else text, opening, split_newlines)


def pairs_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Questions and answers as a self-edit that :func:`segments` splits into one segment for each pair."""
    return "\n".join(f"Question {i}: {question}\nAnswer: {answer}" for i, (question, answer) in enumerate(pairs, 1))


def _stripped(pieces: list[str]) -> list[str]:
    return [piece for piece in map(str.strip, pieces) if piece]
