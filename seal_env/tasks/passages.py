"""Cuts long documents into passages of about equal length.

A paragraph that is short enough is never cut. A longer one is cut at the first of these that gives short enough pieces: ends of
lines where a sentence or a list item ends too; ends of sentences; any ends of lines; blanks and commas; between characters.
So text with wrapped lines, as from a PDF, is cut between its sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, pairwise

import regex

Span = tuple[int, int]

_MOST = 1.25  # a passage may be longer by this factor, so that paragraphs stay uncut
_LONGEST_WORD = 40  # characters; a longer word, such as an address, counts as words of ...
_CHARACTERS_A_WORD = 10  # ... this many characters

# Scripts that put no blanks between words, and their punctuation: each of these characters counts as a word.
_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_UNSPACED = _SCRIPTS + r"\u3001-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_BLANKS = r"\s\x1c-\x1f\u200b"  # those of str.split, and the zero-width space
_WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[^{_BLANKS}{_UNSPACED}]+")
_DISTINCT = regex.compile(rf"[{_SCRIPTS}]\p{{M}}*|[^\W{_SCRIPTS}]+")

_CLOSING = r"""["'*_\p{Pe}\p{Pf}\p{Pi}]*"""
_NO_SENTENCE_END = r"(?<!\b(?:\p{Lu}|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Gen|Col|Capt|Lt|No|Nos|Fig|vs)\.)(?<!^[ \t]*\d+\.)"
_SENTENCE_END = regex.compile(
    rf"(?:\.{_NO_SENTENCE_END}|[\p{{STerm}}…--.]){_CLOSING}\s+(?=\P{{Ll}})|[\p{{STerm}}&&[{_UNSPACED}]]{_CLOSING}\s*",
    regex.V1 | regex.MULTILINE,
)
_PARAGRAPH_END, _LINE_END = regex.compile("\n\n"), regex.compile("\n")
_LIST_ITEM = regex.compile(r"[ \t]*(?:[-*+•–|>#]|\d{1,3}[.)][ \t])")  # noqa: RUF001
_SHORT_LINE = 0.7  # of the longest line: a line shorter than that was not wrapped
_BLANK = regex.compile(rf"[{_BLANKS}]+|(?<=[，、；：])")  # noqa: RUF001
_CHARACTERS = regex.compile(rf"(?:(?=[{_UNSPACED}])\X|(?:(?![{_UNSPACED}])\X){{1,{_CHARACTERS_A_WORD}}})\s*")


def word_count(text: str) -> int:
    """The length of ``text`` in words, where each character of a script without blanks between words counts as one."""
    words = text.split()
    if not text.isascii():
        words = [word for run in words for word in ((run,) if run.isascii() else _WORD.findall(run))]
    characters = (len(regex.findall(r"\X", word)) for word in words if len(word) > _LONGEST_WORD)
    return len(words) + sum((count - 1) // _CHARACTERS_A_WORD for count in characters if count > _LONGEST_WORD)


def distinct_words(text: str) -> set[str]:
    """The words of ``text``, in lower case; characters of scripts without blanks between words."""
    return set(_DISTINCT.findall(text.casefold()))


def phrase(text: str) -> regex.Pattern[str]:
    """A pattern that finds ``text`` in a document, ignoring case and ends of lines."""
    words = (regex.sub(rf"([{_UNSPACED}])(?=.)", r"\1\\s*", regex.escape(word)) for word in text.split())
    return regex.compile(r"\s+".join(words), regex.IGNORECASE | regex.FULLCASE)


def split(text: str, passage_words: int, phrases: Sequence[regex.Pattern[str]] = ()) -> list[str]:
    """The passages of ``text``, in order; together they contain everything but blanks.

    Args:
        text: paragraphs, with blank lines between them.
        passage_words: about the length of the longest passage, see :func:`word_count`; up to a quarter more where paragraphs
            stay uncut that way.
        phrases: are not cut in two: for each that no passage would contain, its first occurrence in the text is not cut.
    """
    text = "\n\n".join(regex.split(r"\n[ \t]*\n\s*", text.strip()))
    uncut: dict[regex.Pattern[str], Span] = {}
    while True:
        passages = _passages(text, passage_words, list(uncut.values()))
        for pattern in phrases:
            if pattern not in uncut and not any(map(pattern.search, passages)):
                match = pattern.search(text)
                if match and word_count(match[0]) <= passage_words:
                    uncut[pattern] = match.span()
                    break
        else:
            return passages


def _passages(text: str, most: int, uncut: Sequence[Span]) -> list[str]:
    pieces = list(_pieces(text, (0, len(text)), most, uncut))
    return [text[start:end].strip() for start, end in _grouped(pieces, most)]


def _grouped(pieces: list[tuple[Span, int]], most: int) -> Iterator[Span]:
    """Join neighbouring pieces to passages of about equal length, with at most about ``most`` words."""
    total, before = sum(length for _, length in pieces) or 1, 0
    passages = -(-total // most)
    passage_of = []
    for _, length in pieces:
        middle = int((before + length / 2) * passages / total)  # the passage that contains the middle of the piece
        passage_of.append(min(middle, passages - 1))
        before += length
    for _, indices in groupby(range(len(pieces)), passage_of.__getitem__):
        group = [pieces[i] for i in indices]
        if len(group) > 1 and sum(length for _, length in group) > _MOST * most:
            yield from _grouped(group, most)
        else:
            yield group[0][0][0], group[-1][0][1]


def _pieces(text: str, span: Span, most: int, uncut: Sequence[Span], level: int = 0) -> Iterator[tuple[Span, int]]:
    """The pieces of ``text[start:end]`` in order, with their lengths: at most ``most``, unless a piece cannot be cut."""
    start, end = span
    part = text[start:end]
    length = word_count(part)
    for finer, cuts in enumerate(_LEVELS[level:] if length > most else [], level + 1):
        offsets = [start + offset for offset in cuts(part) if 0 < offset < len(part)]
        offsets = [offset for offset in offsets if not any(first < offset < last for first, last in uncut)]
        if offsets:
            for piece in pairwise([start, *offsets, end]):
                yield from _pieces(text, piece, most, uncut, finer)
            return
    yield span, length


def _ends(pattern: regex.Pattern[str], text: str) -> Iterator[int]:
    return (match.end() for match in pattern.finditer(text))


def _unwrapped_lines(text: str) -> Iterator[int]:
    """Beginnings of lines that were not wrapped: after the end of a sentence, after a short line, or with a list item."""
    sentences = set(_ends(_SENTENCE_END, text))
    longest = max(map(len, text.split("\n")))
    start = 0
    for end in _ends(_LINE_END, text):
        line = text[start:end].rstrip("\n")
        if end in sentences or len(line) < _SHORT_LINE * longest or _LIST_ITEM.match(text, end):
            yield end
        start = end


_LEVELS: list[Callable[[str], Iterator[int]]] = [
    partial(_ends, _PARAGRAPH_END),
    _unwrapped_lines,
    *(partial(_ends, pattern) for pattern in (_SENTENCE_END, _LINE_END, _BLANK, _CHARACTERS)),
]
