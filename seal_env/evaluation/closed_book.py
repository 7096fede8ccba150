"""Questions about a passage that is out of sight (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

from seal_env.chat import Chat, Prompt
from seal_env.evaluation.evaluator import Answers, Scores, Verdicts, mean
from seal_env.evaluation.graders import Answered, Grader, by_text, exact, grade
from seal_env.tasks import Task, question_prompt


class ClosedBook:
    """One prompt a question; the score is the mean mark of the questions that are graded.

    Args:
        grader: was this answer right? See :mod:`seal_env.evaluation.graders`; by default exact match.
        max_new_tokens: most tokens of an answer.
        stop: strings that end an answer; by default those of :func:`default_stop`.
        chat: the chat template of an instruct student; None: a base student, which goes on with raw text.
    """

    def __init__(
        self,
        grader: Grader | None = None,
        *,
        max_new_tokens: int = 64,
        stop: Sequence[str] | None = None,
        chat: Chat | None = None,
    ) -> None:
        self.grader = grader or by_text(exact)
        self.max_new_tokens = max_new_tokens
        self.stop = default_stop(chat) if stop is None else tuple(stop)
        self.chat = chat

    def prompts(self, task: Task) -> list[Prompt]:
        if self.chat is None:
            return [question_prompt(task.title, one.question) for one in task.questions]
        return [self.chat.prompt(question_prompt(task.title, one.question, "instruct")) for one in task.questions]

    def answers(self, task: Task, texts: Sequence[str]) -> Answers:
        return tuple(read_answer(text, self.chat) for text in texts)

    def marks(self, asked: Sequence[tuple[Task, Answers]]) -> list[Verdicts]:
        verdicts = grade(self.grader, (one for task, answers in asked for one in answered(task, answers)))
        return [tuple(verdicts[one] for one in answered(task, answers)) for task, answers in asked]

    def score(self, marks: Scores) -> float:
        return mean(marks)


def default_stop(chat: Chat | None) -> tuple[str, ...]:
    """What ends an answer: of a base student its first line, of an instruct student only the end of its turn.

    An instruct model may begin with a line break or a block of thoughts, which a stop at a line break would make empty answers.
    """
    return ("\n",) if chat is None else ()


def read_answer(text: str, chat: Chat | None) -> str:
    """The answer in what a student wrote; of an instruct student all of its turn but its thoughts."""
    return text.strip() if chat is None else chat.answer(text)


def answered(task: Task, answers: Answers) -> list[Answered]:
    """What a grader is shown of the answers to a task's questions."""
    return [Answered(one.question, answer, tuple(one.answers)) for one, answer in zip(task.questions, answers)]
