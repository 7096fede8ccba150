"""The student: a frozen language model, of which many LoRA adapters are trained and evaluated together."""

from seal_env.student.decode import Answer, Sampling
from seal_env.student.fit import FitReport, FitResult, FitStatus
from seal_env.student.layout import AdapterLayout, LoraTarget
from seal_env.student.loading import load_base
from seal_env.student.memory import keep_freed_memory
from seal_env.student.student import Student

__all__ = [
    "AdapterLayout",
    "Answer",
    "FitReport",
    "FitResult",
    "FitStatus",
    "LoraTarget",
    "Sampling",
    "Student",
    "keep_freed_memory",
    "load_base",
]
