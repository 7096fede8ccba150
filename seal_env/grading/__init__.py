"""Was this answer right?"""

from seal_env.grading.text import exact, f1, normalize

__all__ = ["exact", "f1", "normalize"]
