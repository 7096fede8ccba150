"""Tasks (C, τ): where contexts and questions come from. Nothing here needs torch."""

from seal_env.tasks.folder import Document
from seal_env.tasks.question_prompts import open_book_prompt, question_prompt
from seal_env.tasks.sources import TaskSource, load_tasks
from seal_env.tasks.task import Question, Task

__all__ = ["Document", "Question", "Task", "TaskSource", "load_tasks", "open_book_prompt", "question_prompt"]
