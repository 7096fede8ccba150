"""How an ARC task is put to a model, as text to be gone on with or as a chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal_env.chat import Chat, Prompt
from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grids import LABELS, Grid, GridText, grid_text, read_grid
from seal_env.update import Example, TokenExample

INPUT, OUTPUT, END = "Input:\n", "\nOutput:\n", "\n\n"


def pairs_text(pairs: Sequence[Pair], style: GridText = "spaced") -> str:
    """Demonstrations one after the other::

    Input:
    0 3
    0 0
    Output:
    3 0
    0 0
    """
    return "".join(INPUT + grid_text(one, style) + OUTPUT + grid_text(other, style) + END for one, other in pairs)


def read_pairs(text: str) -> tuple[Pair, ...]:
    """The demonstrations that :func:`pairs_text` wrote.

    Raises:
        ValueError: it is no such text.
    """
    pairs = []
    for part in text.strip().split(END):
        one, arrow, other = part.removeprefix(INPUT).partition(OUTPUT)
        given, output = read_grid(one), read_grid(other)
        if not arrow or given is None or output is None:
            raise ValueError(f"no demonstration: {part!r:.80}")
        pairs.append(Pair(given, output))
    return tuple(pairs)


@dataclass(frozen=True)
class ArcPrompts:
    """How demonstrations and inputs are shown, and outputs read.

    Attributes:
        style: of grids.
        chat: the chat template of an instruct model; None: raw text, which a base model goes on with.
    """

    style: GridText = "spaced"
    chat: Chat | None = None

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends an output, besides an end token: nothing of an instruct model, which may begin with a blank line."""
        return () if self.chat else (END,)

    def prompt(self, demonstrations: Sequence[Pair], given: Grid) -> Prompt:
        """What is read before the output of ``given`` is written: text, or the token ids of a chat."""
        if self.chat:
            return self.chat.prompt(self._shown(demonstrations, given))
        return self._around(demonstrations, given)[0]

    def example(self, demonstrations: Sequence[Pair], pair: Pair) -> tuple[str, int]:
        """The prompt, the output and its end; and the character at which the output begins."""
        before, after = self._around(demonstrations, pair.input)
        return before + grid_text(pair.output, self.style).removeprefix(self._label) + after, len(before)

    def encode(self, text: str, loss_from: int) -> Example | TokenExample:
        """What :meth:`example` wrote as a training example, with the loss from this character on; a chat as token ids."""
        return self.chat.example(text, loss_from) if self.chat else Example(text, loss_from)

    def read(self, text: str) -> Grid | None:
        """The grid that a model wrote after a prompt; None where it is none.

        Of an instruct model it is what stands after its thoughts and before a blank line.
        """
        if self.chat:
            text = self.chat.answer(text).partition(END)[0]
        return read_grid(self._label + text, self.style)

    @property
    def _label(self) -> str:
        """The first row's letter ends the prompt, so that what is written begins with a colour."""
        return LABELS[0] if self.style == "labelled" and self.chat is None else ""

    def _around(self, demonstrations: Sequence[Pair], given: Grid) -> tuple[str, str]:
        shown = self._shown(demonstrations, given)
        return self.chat.around(shown) if self.chat else (shown + self._label, END)

    def _shown(self, demonstrations: Sequence[Pair], given: Grid) -> str:
        return pairs_text(demonstrations, self.style) + INPUT + grid_text(given, self.style) + OUTPUT
