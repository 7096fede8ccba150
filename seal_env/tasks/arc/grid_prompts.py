"""The prompts of ARC tasks, as raw text for a base model or as a chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal_env.chat import Chat, Prompt
from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grids import LABELS, Grid, GridText, grid_text, read_grid
from seal_env.update import Example, TokenExample

INPUT, OUTPUT, END = "Input:\n", "\nOutput:\n", "\n\n"


def pairs_text(pairs: Sequence[Pair], style: GridText = "spaced") -> str:
    """The text of demonstrations::

    Input:
    0 3
    0 0
    Output:
    3 0
    0 0
    """
    return "".join(INPUT + grid_text(pair.input, style) + OUTPUT + grid_text(pair.output, style) + END for pair in pairs)


def read_pairs(text: str) -> tuple[Pair, ...]:
    """The demonstrations that :func:`pairs_text` wrote.

    Raises:
        ValueError: it did not write this text.
    """
    pairs = []
    for part in text.strip().split(END):
        before, separator, after = part.removeprefix(INPUT).partition(OUTPUT)
        given, output = read_grid(before), read_grid(after)
        if not separator or given is None or output is None:
            raise ValueError(f"no demonstration: {part!r:.80}")
        pairs.append(Pair(given, output))
    return tuple(pairs)


@dataclass(frozen=True)
class ArcPrompts:
    """Writes prompts of demonstrations and an input, and reads outputs.

    Attributes:
        style: of grids as text.
        chat: the chat template of an instruct model; None: raw text for a base model.
    """

    style: GridText = "spaced"
    chat: Chat | None = None

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an output, besides end tokens; none for an instruct model, which may begin with a blank line."""
        return () if self.chat else (END,)

    def prompt(self, demonstrations: Sequence[Pair], given: Grid) -> Prompt:
        """The prompt for the output of ``given``: text, or the token ids of a chat."""
        if self.chat:
            return self.chat.prompt(self._message(demonstrations, given))
        return self._around(demonstrations, given)[0]

    def example(self, demonstrations: Sequence[Pair], pair: Pair) -> tuple[str, int]:
        """The text of prompt, output and end, and the offset at which the output begins."""
        before, after = self._around(demonstrations, pair.input)
        return before + grid_text(pair.output, self.style).removeprefix(self._label) + after, len(before)

    def encode(self, text: str, loss_from: int) -> Example | TokenExample:
        """The text of :meth:`example` as a training example, with a loss from the offset ``loss_from``; a chat as token ids."""
        return self.chat.example(text, loss_from) if self.chat else Example(text, loss_from)

    def read(self, text: str) -> Grid | None:
        """The grid in a model's completion; None if there is none.

        For an instruct model, the text after its thoughts and before a blank line is read.
        """
        if self.chat:
            text = self.chat.answer(text).partition(END)[0]
        return read_grid(self._label + text, self.style)

    @property
    def _label(self) -> str:
        """The first row's letter, which ends the prompt, so that a completion begins with a colour."""
        return LABELS[0] if self.style == "labelled" and self.chat is None else ""

    def _around(self, demonstrations: Sequence[Pair], given: Grid) -> tuple[str, str]:
        message = self._message(demonstrations, given)
        return self.chat.around(message) if self.chat else (message + self._label, END)

    def _message(self, demonstrations: Sequence[Pair], given: Grid) -> str:
        return pairs_text(demonstrations, self.style) + INPUT + grid_text(given, self.style) + OUTPUT
