"""For mkdocstrings: docstrings as they read well in an editor, made into the Markdown that the pages are built from."""

from __future__ import annotations

import re
from typing import Any

import griffe

# A list that begins right below a line of text, which Markdown takes for more of it.
_LIST = re.compile(r"^( *(?!- )\S.*\n)( *- )", re.MULTILINE)
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")


class Docstrings(griffe.Extension):
    """``:class:`Policy``` becomes ```Policy```, with ``~`` before a path only its last name is left, and lists are lists."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _LIST.sub(r"\1\n\2", _ROLE.sub(_code, obj.docstring.value))


def _code(role: re.Match[str]) -> str:
    return f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`"
