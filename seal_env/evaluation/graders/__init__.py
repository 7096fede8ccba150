"""Graders: was this answer right?"""

from seal_env.evaluation.graders.grader import (
    GRADERS,
    UNGRADED,
    Answered,
    Grader,
    GradingError,
    Score,
    Ungraded,
    Verdict,
    by_text,
    get_grader,
    grade,
)
from seal_env.tasks.answer_match import contains, exact, f1, normalize

__all__ = [
    "GRADERS",
    "UNGRADED",
    "Answered",
    "Grader",
    "GradingError",
    "Score",
    "Ungraded",
    "Verdict",
    "by_text",
    "contains",
    "exact",
    "f1",
    "get_grader",
    "grade",
    "normalize",
]
