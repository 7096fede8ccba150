"""The code and the docs use the words of the field: retired identifiers and retired words do not come back."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agents", "benchmarks", "seal_env")
# docs/migration.md lists the old names.
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "migration.md")]

# Identifiers that nothing may define, and what to write in their place.
RETIRED = {
    "Asking": "GenerationConfig",
    "Borrowed": "ExecutorPool",
    "CarryOut": "RunUpdates",
    "Core": "Engine",
    "Crew": "WorkerPool",
    "Done": "UpdateResult",
    "Evaluated": "ScoredEdit",
    "Exam": "Evaluator",
    "GridExam": "GridEvaluator",
    "HandMade": "Oracle",
    "HandMadeConfig": "OracleConfig",
    "Job": "ScoreRequest",
    "Lane": "what it is",
    "LostWorker": "ActorDied",
    "Mark": "Score",
    "Marks": "Scores",
    "OneStep": "OneStepVecEnv",
    "Place": "EpisodeState",
    "Portion": "a chunk",
    "Processes": "ProcessPool",
    "RayCrew": "RayPool",
    "Recipe": "StudentSpec",
    "Refused": "WorkerMismatch",
    "Scored": "ScoredEdit",
    "Spread": "Dispatcher",
    "Ticket": "ChunkContext",
    "UpdatePlan": "Update",
    "Work": "UpdateRequest",
    "Written": "EditText",
    "agent_names": "AGENTS.names()",
    "asked": "questions, prompts or requested",
    "available_formats": "FORMATS.names()",
    "carry_out": "run_updates",
    "crew": "pool",
    "exam": "evaluator",
    "found": "what it is: results, names, matches",
    "hand_made": "oracle",
    "hand_made_facts": "oracle_facts",
    "hand_made_pairs": "oracle_pairs",
    "joint_plan": "joint_update",
    "made": "what it is",
    "make_calibrated": "Calibrated",
    "make_domain": "DOMAINS.get",
    "make_plans": "make_updates",
    "marks": "scores or verdicts",
    "misfit": "incompatibility",
    "one": "what it is: edit, task, result",
    "place": "env_index",
    "places": "num_envs",
    "plan": "update",
    "plans": "updates",
    "portion": "chunk",
    "portions": "chunks",
    "read_marks": "read_scores",
    "register_format": "FORMATS.register",
    "said": "message or text",
    "score_texts": "score_completions",
    "seal_of": "seal_vector_env",
    "seeds_of": "expand_seeds",
    "shared_crew": "shared_pool",
    "shown": "what it is",
    "ticket": "chunk context",
    "told": "what it is",
    "whole": "full, or what it is",
    "whole_folder": "atomic_folder",
    "write_about": "save_metadata",
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


@pytest.mark.parametrize("directory", [*PACKAGES, "examples", "tests"])
def test_no_module_defines_a_retired_identifier(directory):
    problems = [
        f"{path.relative_to(ROOT)}:{line}: {name}, write {RETIRED[name]}"
        for path in sorted((ROOT / directory).rglob("*.py"))
        for name, line in definitions(ast.parse(path.read_text(encoding="utf-8")))
        if name in RETIRED
    ]
    assert not problems, "\n".join(problems)


def test_no_page_of_the_docs_uses_a_retired_phrase():
    problems = [
        f"{page.relative_to(ROOT)}: {match[0]!r}, write {substitute}"
        for page in PAGES
        for phrase, substitute in RETIRED_PHRASES.items()
        for match in re.finditer(rf"\b{phrase}\b", page.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert not problems, "\n".join(problems)


def test_every_module_has_a_name_that_no_other_module_and_no_standard_module_has():
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    names = Counter(path.stem for path in paths if path.stem not in ("__init__", "__main__"))
    assert not [name for name, count in names.items() if count > 1]
    assert not names.keys() & sys.stdlib_module_names
