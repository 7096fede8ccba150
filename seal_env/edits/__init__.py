"""Prompts that ask for a self-edit, and the parsing of self-edits into an ``Update``.

settings = EditSettings(format="implications")
prompt = get_format(settings.format).prompt(task)
edit = parse("1. The Shah fled.\\n2. Otrar fell in 1219.", task, settings, seed=0)
edit.update     # for Student.fit: two sequences and the passage, 10 epochs
edit.status     # EditStatus.OK
"""

from seal_env.chat import Template, prompt_ids
from seal_env.edits.formats import FORMATS, EditFormat, Message, get_format
from seal_env.edits.gold import gold_pairs, gold_statements, half_wrong_statements
from seal_env.edits.parse import EditSettings, EditStatus, ParsedEdit, parse, passage_only
from seal_env.edits.split import Splitter, pairs_text, segments, segments_after_thoughts
from seal_env.edits.tools import (
    INSTRUCTION,
    STRATEGIES,
    SWITCHES,
    ToolEdit,
    ToolEditError,
    ToolSettings,
    parse_tools,
    tool_prompt,
)

__all__ = [
    "FORMATS",
    "INSTRUCTION",
    "STRATEGIES",
    "SWITCHES",
    "EditFormat",
    "EditSettings",
    "EditStatus",
    "Message",
    "ParsedEdit",
    "Splitter",
    "Template",
    "ToolEdit",
    "ToolEditError",
    "ToolSettings",
    "get_format",
    "gold_pairs",
    "gold_statements",
    "half_wrong_statements",
    "pairs_text",
    "parse",
    "parse_tools",
    "passage_only",
    "prompt_ids",
    "segments",
    "segments_after_thoughts",
    "tool_prompt",
]
