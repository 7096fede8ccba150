"""Tasks (C, τ) and the datasets that they come from. Nothing here needs torch."""

from seal_env.tasks.sources import DATASETS, TaskSource, check_held_out, load_tasks
from seal_env.tasks.task import Document, Question, Task, open_book_prompt, question_prompt

__all__ = [
    "DATASETS",
    "Document",
    "Question",
    "Task",
    "TaskSource",
    "check_held_out",
    "load_tasks",
    "open_book_prompt",
    "question_prompt",
]
