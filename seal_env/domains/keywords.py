"""The reference of all keywords, generated from the config classes: as text for ``help(SealEnv)`` and as a page of the docs."""

from __future__ import annotations

from seal_env.domains.config import EnvConfig, Keyword, keyword_reference
from seal_env.domains.domain import DOMAINS

BUILT_IN = ("knowledge", "arc")


def sections() -> list[tuple[str, list[Keyword]]]:
    """The keywords of all domains, then for each bundled domain those that it adds or whose default or sentence differs."""
    common = keyword_reference(EnvConfig)
    groups = [("All domains", common)]
    for name in BUILT_IN:
        config_class = DOMAINS.get(name).Config
        groups.append((f'domain="{name}"', [row for row in keyword_reference(config_class) if row not in common]))
    return groups


def keywords_text() -> str:
    """The reference as lists, for docstrings."""
    lines = []
    for title, rows in sections():
        lines += ["", f"    {title}:", ""]
        lines += [f"    - ``{row.name}`` ({details(row)}): {row.help.replace('`', '``')}" for row in rows]
    return "\n".join(lines) + "\n"


def details(row: Keyword) -> str:
    """Type, default and unit of a keyword on one line."""
    return f"{row.type}, default {row.default}" + (f", in {row.unit}" if row.unit else "")
