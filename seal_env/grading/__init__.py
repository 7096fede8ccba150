"""Was this answer right?"""

from seal_env.grading.base import (
    GRADERS,
    UNGRADED,
    Answered,
    Grader,
    GradingError,
    Mark,
    Ungraded,
    Verdict,
    by_text,
    get_grader,
    grade,
)
from seal_env.grading.text import contains, exact, f1, normalize

__all__ = [
    "GRADERS",
    "UNGRADED",
    "Answered",
    "Grader",
    "GradingError",
    "Mark",
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
