"""The code and the docs use the words of the field: retired identifiers and retired words do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIRECTORIES = ("agents", "benchmarks", "examples", "seal_env", "tests")

# Identifiers that nothing may define, and what to write in their place.
RETIRED = {
    "Asking": "GenerationConfig",
    "Core": "Engine",
    "Crew": "WorkerPool",
    "Done": "UpdateResult",
    "Exam": "Evaluator",
    "GridExam": "GridEvaluator",
    "HandMade": "Oracle",
    "Place": "EpisodeState",
    "Portion": "a chunk",
    "Spread": "Dispatcher",
    "Ticket": "ChunkContext",
    "Work": "UpdateRequest",
    "asked": "questions, prompts or requested",
    "carry_out": "run_updates",
    "crew": "pool",
    "exam": "evaluator",
    "found": "what it is: results, names, matches",
    "hand_made": "oracle",
    "made": "what it is",
    "marks": "scores or verdicts",
    "one": "what it is: edit, task, result",
    "place": "env_index",
    "places": "num_envs",
    "plan": "update",
    "plans": "updates",
    "portion": "chunk",
    "portions": "chunks",
    "said": "message or text",
    "shown": "what it is",
    "ticket": "chunk context",
    "told": "what it is",
    "whole": "full, or what it is",
}

# Phrases that the docs may not use, as patterns, and what to write in their place.
RETIRED_PHRASES = {
    r"at the door": "validated when it is passed",
    r"crews?": "worker pool",
    r"exams?": "evaluation or evaluator",
    r"hand-made": "oracle",
    r"lines to compare with": "baselines",
    r"marks": "scores or verdicts",
    r"of its own": "its own",
    r"places": "sub-environments",
    r"portions?": "chunk",
    r"what came of": "the outcome of",
    r"whoever": "name the part",
    r"whole or not at all": "atomically",
}

# Where a retired identifier or phrase is still in use. These tables only shrink.
ALLOWED: dict[str, set[str]] = {
    "agents": {"found", "one", "places", "shown"},
    "benchmarks": {"found", "one", "place", "places"},
    "benchmarks/commands": {"asked", "found", "marks", "one", "said", "shown"},
    "benchmarks/gpu": {"found", "one", "plan", "plans", "shown", "told"},
    "benchmarks/measurements": {"asked", "found", "marks", "one", "plan", "plans"},
    "benchmarks/reports": {"found", "one", "said"},
    "examples": {"one"},
    "seal_env": {"found", "one", "place", "shown"},
    "seal_env/distributed": {"asked", "found", "told"},
    "seal_env/domains": {"asked", "found", "made", "marks", "one", "said", "shown"},
    "seal_env/edits": {"asked", "found", "one", "plan", "shown"},
    "seal_env/envs": {"found", "one", "plan", "shown"},
    "seal_env/evaluation": {"asked", "found", "marks", "one", "plan", "shown"},
    "seal_env/evaluation/graders": {"asked", "found", "made", "one", "said", "shown", "told", "whole"},
    "seal_env/rewards": {"asked", "found", "marks", "said"},
    "seal_env/student": {"asked", "found", "made", "one", "plan", "plans", "whole"},
    "seal_env/tasks": {"asked", "found", "one", "place", "places", "said", "shown", "whole"},
    "seal_env/tasks/almanac": {"asked", "found", "made", "place", "told"},
    "seal_env/tasks/arc": {"found", "made", "one", "place", "shown"},
    "tests": {"asked", "found", "made", "marks", "one", "place", "places", "plan", "plans", "said", "shown", "told", "whole"},
}
ALLOWED_PHRASES: dict[str, set[str]] = {
    "README.md": {"hand-made", "lines to compare with", "places"},
    "docs/agents.md": {"lines to compare with", "of its own"},
    "docs/arc.md": {"exams?", "hand-made", "places"},
    "docs/benchmarks.md": {"lines to compare with", "of its own"},
    "docs/environments.md": {"marks", "of its own", "places", "what came of"},
    "docs/scale.md": {"marks", "portions?", "whoever"},
    "docs/student.md": {"of its own", "whoever"},
}


def definitions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a module defines or assigns, with their lines; names that it only reads belong to others."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias | ast.ExceptHandler):
            name = node.asname if isinstance(node, ast.alias) else node.name
            if name:
                yield name, node.lineno


@cache
def uses() -> dict[str, dict[str, str]]:
    """By directory: the retired identifiers that its modules define, each with the first line that does."""
    by_directory: dict[str, dict[str, str]] = {}
    for path in sorted(path for directory in DIRECTORIES for path in (ROOT / directory).rglob("*.py")):
        identifiers = by_directory.setdefault(path.parent.relative_to(ROOT).as_posix(), {})
        for name, line in definitions(ast.parse(path.read_text(encoding="utf-8"))):
            if name in RETIRED:
                identifiers.setdefault(name, f"{path.relative_to(ROOT)}:{line}: {name}, write {RETIRED[name]}")
    return by_directory


@cache
def phrases() -> dict[str, dict[str, str]]:
    """By page of the docs: the retired phrases that it uses, each with what to write."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {
        page.relative_to(ROOT).as_posix(): {
            phrase: f"{page.name}: {match[0]!r}, write {substitute}"
            for phrase, substitute in RETIRED_PHRASES.items()
            if (match := re.search(rf"\b{phrase}\b", page.read_text(encoding="utf-8"), re.IGNORECASE))
        }
        for page in pages
    }


@pytest.mark.parametrize(("collect", "allowed"), [(uses, ALLOWED), (phrases, ALLOWED_PHRASES)], ids=["code", "docs"])
def test_retired_words_are_gone(collect, allowed):
    problems = [
        problem
        for where, words in collect().items()
        for word, problem in words.items()
        if word not in allowed.get(where, set())
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(("collect", "allowed"), [(uses, ALLOWED), (phrases, ALLOWED_PHRASES)], ids=["code", "docs"])
def test_no_exception_is_left_that_nothing_needs(collect, allowed):
    unneeded = [f"{where}: {word}" for where, words in allowed.items() for word in words - set(collect().get(where, {}))]
    assert not unneeded, "delete from the table: " + ", ".join(sorted(unneeded))
