"""An extension of mkdocstrings that turns docstrings, as they are written for an editor, into Markdown."""

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
            # SealEnv fills its keywords in when it is imported.
            text = obj.docstring.value.replace("{keywords}", "See [Keywords](../reference.md).\n")
            obj.docstring.value = _LIST.sub(r"\1\n\2", _ROLE.sub(_code, text))


def _code(role: re.Match[str]) -> str:
    return f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`"
