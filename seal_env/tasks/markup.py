"""Title and text of a document: separates front matter, Markdown headings and HTML comments from the text.

Markdown is parsed as CommonMark, so that ``# not a heading`` in code or in a comment is none. The text itself stays Markdown:
only front matter, comments and a heading that becomes the title are removed.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline, html_inline
from markdown_it.token import Token

# The first lines of a document, between two lines of --- (YAML, which may also end in ...) or of +++ (TOML).
_FRONT_MATTER = re.compile(
    r"(?:[ \t]*\n)*(?:---[ \t]*\n(?P<yaml>.*?)^(?:---|\.\.\.)|\+\+\+[ \t]*\n(?P<toml>.*?)^\+\+\+)[ \t]*(?:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
_KEY = {"yaml": re.compile(r"[\w.\"'-]+[ \t]*:(?:\s|$)"), "toml": re.compile(r"[\w.\"'-]+[ \t]*=|\[")}
_COMMENT = re.compile(r"<!--(?:-?>|.*?-->)", re.DOTALL)
_ARROW = re.compile("-->")


@dataclass(frozen=True)
class Parts:
    """The parts of a document.

    Attributes:
        title: from its front matter or its first heading; None if it has neither.
        text: the rest, without blank lines around it.
        removed: names of the removed parts, for an error if nothing is left.
    """

    title: str | None
    text: str
    removed: tuple[str, ...] = ()


def parts(text: str, where: str, markdown: bool) -> Parts:
    """Separate the title of a document from its text.

    The title is the ``title`` of the front matter where that is text, else the first heading of the document that is not
    empty, without its markup. A heading that opens the document is left out of the text if it is the title, or says the same
    as the front matter's; otherwise it stays.

    A ``---`` that is never followed by another one, or text between two that is no YAML mapping, is a thematic break and
    stays in the text, and so with ``+++``.

    Args:
        text: of the file, with ``\\n`` as line end.
        where: names the file in errors.
        markdown: whether the text has Markdown headings and comments; any text may have front matter.

    Raises:
        ValueError: front matter that begins with a key but cannot be read.
    """
    front, body = _front_matter(text, where)
    removed = ["front matter"] if body != text else []
    title = _one_line(front["title"]) if isinstance(front.get("title"), str) else ""
    if markdown:
        visible = _without_comments(body)
        removed += ["comments"] if visible != body else []
        heading, opening = _first_heading(visible)
        lines = visible.split("\n")
        opens = heading and not any(line.strip() for line in lines[: opening[0]])
        if opens and title.casefold() in ("", heading.casefold()):
            removed.append("heading")
            visible = "\n".join(lines[opening[1] :])
        title, body = title or heading, visible
    return Parts(title or None, body.strip(), tuple(removed))


def _front_matter(text: str, where: str) -> tuple[dict[Any, Any], str]:
    """The keys of the front matter, none if there is no front matter, and the rest of the document."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    kind = match.lastgroup or ""
    block = "\n" * text.count("\n", 0, match.start(kind)) + match[kind]  # so that errors count the lines of the file
    try:
        values = yaml.safe_load(block) if kind == "yaml" else tomllib.loads(block)
    except Exception as error:  # PyYAML lets through whatever the constructors of dates, numbers, ... raise
        first = next((line for line in block.split("\n") if line.strip() and not line.startswith("#")), "")
        if not _KEY[kind].match(first):
            return {}, text
        problem = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            problem = f"{error.problem} (at line {error.problem_mark.line + 1})"
        raise ValueError(
            f"{where}: the front matter is not {kind.upper()}: {problem}; correct it (text with a colon or other special"
            " characters belongs in quotes), or if it is no front matter, write *** for the lines around it"
        ) from error
    if values is None or isinstance(values, dict):
        return values or {}, text[match.end() :]
    return {}, text


def _one_line(text: str) -> str:
    """``text`` without line ends; the surrogate pairs of JSON escapes, which YAML reads as two characters, are joined."""
    return " ".join(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").split())


def _html_inline_with_offset(state: StateInline, silent: bool) -> bool:
    """The rule for inline HTML that also says where a comment begins, even one whose end is in a later block."""
    start = state.pos
    comment = state.src.startswith("<!--", start)
    matched = html_inline(state, silent)
    if comment and not matched:
        if not silent:
            state.push("html_inline", "", 0).content = "<!--"
        state.pos += len("<!--")
    if comment and not silent:
        state.tokens[-1].meta = {"comment": start}
    return matched or comment


# Blocks only: inline markup is parsed where it matters, which takes a thirtieth of the time.
_PARSER = MarkdownIt("commonmark").enable("strikethrough").disable(["inline", "text_join"])
_PARSER.inline.ruler.at("html_inline", _html_inline_with_offset)


def _inline(content: str, env: dict[str, Any]) -> list[Token]:
    """The tokens of inline Markdown; ``env`` has the link references that were defined in its document."""
    tokens: list[Token] = []
    _PARSER.inline.parse(content, _PARSER, env, tokens)
    return tokens


def _without_comments(text: str) -> str:
    """Markdown without its comments."""
    while spans := list(_comments(text)):  # again: a comment that ends in a later block had been read as text
        kept, end = [], 0
        for start, stop in spans:
            kept.append(text[end:start])
            # "a <!-- b --> c" becomes "a c".
            end = stop + 1 if text[start - 1 : start] == " " and text[stop : stop + 1] == " " else stop
        text = "".join([*kept, text[end:]])
    return text


def _comments(text: str) -> Iterator[tuple[int, int]]:
    """The spans of the comments in ``text``, in order."""
    if "<!--" not in text:
        return
    env: dict[str, Any] = {}
    tokens = _PARSER.parse(text, env)
    lines = text.replace("\0", "\ufffd").split("\n")  # as the parser reads them
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    spans = [(token, starts[token.map[0]], starts[token.map[1]]) for token in tokens if token.map]
    code = [(start, stop) for token, start, stop in spans if token.type in ("fence", "code_block")]
    last_end = text.rfind("-->")
    end = 0
    for token, block_start, block_stop in spans:
        if "<!--" not in token.content:
            continue
        if token.type == "html_block":
            offsets = [block_start + match.start() for match in re.finditer("<!--", text[block_start:block_stop])]
        elif token.type == "inline":
            positions = [child.meta["comment"] for child in _inline(token.content, env) if child.meta]
            offsets = [_offset(token, position, lines, starts) for position in positions]
        else:
            continue
        for offset in offsets:
            if offset < end:  # in the comment before
                continue
            stop = _comment_end(text, offset, code) if offset < last_end else None
            if stop is None and token.type == "html_block":  # not closed: it hides the rest
                stop = min(block_stop, len(text))
            if stop is not None:
                yield offset, stop
                end = stop


def _offset(token: Token, position: int, lines: list[str], starts: list[int]) -> int:
    """The offset in the text of the character ``position`` of an inline token's content, which lacks list and quote markers."""
    row = token.content.count("\n", 0, position)
    line = (token.map or [0])[0] + row
    part = token.content.split("\n")[row]
    column = lines[line].rfind(part)
    if column < 0:  # the parser took blanks away at its end, or for a tab at its beginning
        column = len(lines[line].rstrip()) - len(part.rstrip())
    return starts[line] + column + position - (token.content.rfind("\n", 0, position) + 1)


def _comment_end(text: str, start: int, code: Sequence[tuple[int, int]]) -> int | None:
    """The end of the comment at ``start``; None if it has none. An arrow in code, ``A --> B``, does not end a comment."""
    match = _COMMENT.match(text, start)
    while match:
        arrow = match.end() - len("-->")
        i = bisect_right(code, (arrow, len(text))) - 1
        if i < 0 or not start < code[i][0] <= arrow < code[i][1]:
            return match.end()
        match = _ARROW.search(text, code[i][1])
    return None


def _first_heading(text: str) -> tuple[str, list[int]]:
    """The first heading that is not empty, as plain text, and its lines; headings in lists and quotes do not count."""
    env: dict[str, Any] = {}
    tokens = _PARSER.parse(text, env)
    for token, content in zip(tokens, tokens[1:]):
        if token.type == "heading_open" and token.level == 0 and token.map:
            title = _one_line(_plain(_inline(content.content, env)))
            if title:
                return title, token.map
    return "", [0, 0]


def _plain(tokens: Sequence[Token]) -> str:
    """The text of inline Markdown without its markup."""
    return "".join(
        _plain(token.children or [])
        if token.type == "image"
        else " "
        if token.type in ("softbreak", "hardbreak")
        else token.content
        if token.type in ("text", "text_special", "code_inline") or token.content == "<!--"
        else ""
        for token in tokens
    )
