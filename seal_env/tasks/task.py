"""What a task is: a context C and the questions tau asked about it once the context is out of sight.

Every source of tasks (``seal_env.tasks.almanac`` and others) yields these. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question and the answers that count as right.

    Attributes:
        question: what is asked; it names what it is about, for it is read without the context.
        answers: the gold answer first, then other accepted forms.
        answer_start: character offset of ``answers[0]`` in the context, or None where it does not stand there.
        id: unique within its source.
        self_written: whether a model wrote it and nobody checked it.
    """

    question: str
    answers: tuple[str, ...]
    answer_start: int | None = None
    id: str = ""
    self_written: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.answers, str):
            raise ValueError(f"answers must be a tuple of strings, got the string {self.answers!r}")
        object.__setattr__(self, "answers", tuple(self.answers))
        if not self.question.strip():
            raise ValueError(f"question must not be empty, got {self.question!r}")
        if not self.answers or not all(answer.strip() for answer in self.answers):
            raise ValueError(f"answers must hold at least one answer and no empty one, got {self.answers!r}")
        if self.answer_start is not None and self.answer_start < 0:
            raise ValueError(f"answer_start must be None or >= 0, got {self.answer_start}")


@dataclass(frozen=True)
class Task:
    """A context and its questions: (C, tau).

    Attributes:
        title: what the context is about.
        context: the passage.
        questions: at least one.
        id: unique within its source.
    """

    title: str
    context: str
    questions: tuple[Question, ...]
    id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "questions", tuple(self.questions))
        for name in ("title", "context"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} must not be empty, got {getattr(self, name)!r}")
        if not self.questions:
            raise ValueError(f"questions must hold at least one question, got none for {self.title!r}")
        for question in self.questions:
            start, answer = question.answer_start, question.answers[0]
            if start is not None and not self.context.startswith(answer, start):
                found = self.context[start : start + len(answer)]
                raise ValueError(f"answer_start {start} must point at {answer!r} in the context, it points at {found!r}")

    @property
    def label_free(self) -> bool:
        """Whether any question was written by a model, so that nobody knows what is right."""
        return any(question.self_written for question in self.questions)
