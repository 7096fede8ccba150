"""How an ARC task is put to a model, as text to be gone on with or as a chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seal_env.tasks.arc.augment import Pair
from seal_env.tasks.arc.grids import LABELS, Grid, GridText, grid_text, read_grid

INPUT, OUTPUT, END = "Input:\n", "\nOutput:\n", "\n\n"

Chat = Callable[[str], tuple[str, str]]  # from a user's message to what stands before and after the assistant's answer


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
        chat: the tokenizer's chat template, for an instruct model; None: raw text, which a base model goes on with.
    """

    style: GridText = "spaced"
    chat: Chat | None = None

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends an output, besides the end-of-text token."""
        return (END,)

    def prompt(self, demonstrations: Sequence[Pair], given: Grid) -> str:
        """What is read before the output of ``given`` is written."""
        return self._around(demonstrations, given)[0]

    def example(self, demonstrations: Sequence[Pair], pair: Pair) -> tuple[str, int]:
        """The prompt, the output and its end; and the character at which the output begins."""
        before, after = self._around(demonstrations, pair.input)
        return before + grid_text(pair.output, self.style).removeprefix(self._label) + after, len(before)

    def read(self, text: str) -> Grid | None:
        """The grid that a model wrote after a prompt; None where it is none."""
        return read_grid(self._label + text, self.style)

    @property
    def _label(self) -> str:
        """The first row's letter ends the prompt, so that what is written begins with a colour."""
        return LABELS[0] if self.style == "labelled" and self.chat is None else ""

    def _around(self, demonstrations: Sequence[Pair], given: Grid) -> tuple[str, str]:
        shown = pairs_text(demonstrations, self.style) + INPUT + grid_text(given, self.style) + OUTPUT
        return self.chat(shown) if self.chat else (shown + self._label, END)
