"""How much of what could be asked about a passage does an edit say? No model is asked and no label is needed.

What questions ask for is mostly names and numbers. The reward is the share of the passage's that the edit holds, each counted
once, those of the title left out. Copying is not paid for: a segment that stands in the passage word for word, or shares a run
of words with it, counts for nothing. That a name is there says nothing of what is said about it, so lists of names are
overrated, and an edit that says things in other words is underrated.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

from seal_env.checks import check_count
from seal_env.rewards.proxy import EditText, Rating
from seal_env.tasks.answer_match import normalize

_WORD = re.compile(r"\d+(?:[.,]\d+)*\w*|\w+")
_SAYS_NOTHING = (
    "about above after again against all almost along also although always am among an and another any are around as at "
    "away be became because become been before began behind being below between both but by came can could did do does done "
    "down due during each early either else even ever every few finally first for from further had has have having he hence "
    "her here hers herself him himself his how however i if in indeed instead into is it its itself just last late later "
    "least less like made many may me meanwhile might more most much must my near neither never next no none nor not now of "
    "off often on once one only or other others our out over own per perhaps quite rather same second several shall she "
    "should since so some soon still such than that the their them themselves then there therefore these they this those "
    "though three through throughout thus to together too toward towards two under unlike until up upon us very via was we "
    "were what when where whether which while who whom whose why will with within without would yet you your"
)


class Coverage:
    """See the module's docstring.

    Args:
        run: so many words in a row as they stand in the passage make a segment a copy.
    """

    def __init__(self, run: int = 12) -> None:
        check_count("run", run)
        self.run = run

    def __repr__(self) -> str:
        return f"Coverage(run={self.run})"

    def __call__(self, edits: Sequence[EditText]) -> list[Rating]:
        return [Rating(share, {"coverage": share}) for share in map(self._share, edits)]

    def _share(self, edit: EditText) -> float:
        wanted = facts(edit.title, edit.context)
        if not wanted:
            return 0.0
        passage = f" {_normal(edit.context)} "
        said = {word for segment in edit.segments if not self._copied(segment, passage) for _, word in _words(segment)}
        return len(wanted & said) / len(wanted)

    def _copied(self, segment: str, passage: str) -> bool:
        words = normalize(segment).split()
        runs = (words[i : i + self.run] for i in range(max(1, len(words) - self.run + 1)))
        return any(f" {' '.join(run)} " in passage for run in runs)


@functools.lru_cache(maxsize=4096)
def facts(title: str, context: str) -> frozenset[str]:
    """What is to be said of a passage, in normal form: its names and numbers, words that begin with a capital or hold a digit.

    In a passage without any, all words that say something.
    """
    known = {*_SAYS_NOTHING.split()}.union(word for _, word in _words(title))
    content = [(text, word) for text, word in _words(context) if word not in known and (len(word) > 1 or word.isdigit())]
    found = frozenset(word for text, word in content if text[0].isupper() or any(map(str.isdigit, text)))
    return found or frozenset(word for _, word in content)


def _words(text: str) -> Iterable[tuple[str, str]]:
    """Each word as it stands and in normal form, where that leaves something of it."""
    for found in _WORD.findall(text):
        if word := _normal(found):
            yield found, word


_normal = functools.lru_cache(1 << 16)(normalize)
