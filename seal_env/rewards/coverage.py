"""Coverage: the share of a passage's names and numbers that an edit contains. It needs no model and no labels.

Most answers are names or numbers. Each name or number counts once, and those of the title do not count. Copies do not count: a
segment that the passage contains word for word, or that shares a run of words with it, is ignored. Coverage does not check
what an edit says about a name, so it overrates lists of names and underrates paraphrases.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

from seal_env.checks import check_count
from seal_env.rewards.proxy import EditText, Rating
from seal_env.tasks.answer_match import normalize

_WORD = re.compile(r"\d+(?:[.,]\d+)*\w*|\w+")
_STOP_WORDS = (
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
        run: a segment that shares this many consecutive words with the passage is a copy.
    """

    def __init__(self, run: int = 12) -> None:
        check_count("run", run)
        self.run = run

    def __repr__(self) -> str:
        return f"Coverage(run={self.run})"

    def __call__(self, edits: Sequence[EditText]) -> list[Rating]:
        return [Rating(share, {"coverage": share}) for share in map(self._share, edits)]

    def _share(self, edit: EditText) -> float:
        expected = facts(edit.title, edit.context)
        if not expected:
            return 0.0
        passage = f" {_normal(edit.context)} "
        words = {
            word for segment in edit.segments if not self._copied(segment, passage) for _, word in normalized_words(segment)
        }
        return len(expected & words) / len(expected)

    def _copied(self, segment: str, passage: str) -> bool:
        words = normalize(segment).split()
        runs = (words[i : i + self.run] for i in range(max(1, len(words) - self.run + 1)))
        return any(f" {' '.join(run)} " in passage for run in runs)


@functools.lru_cache(maxsize=4096)
def facts(title: str, context: str) -> frozenset[str]:
    """The normalized names and numbers of a passage: words that begin with a capital or contain a digit.

    In a passage without any, all words but stop words.
    """
    known = {*_STOP_WORDS.split()}.union(word for _, word in normalized_words(title))
    content = [
        (text, word) for text, word in normalized_words(context) if word not in known and (len(word) > 1 or word.isdigit())
    ]
    names = frozenset(word for text, word in content if text[0].isupper() or any(map(str.isdigit, text)))
    return names or frozenset(word for _, word in content)


def normalized_words(text: str) -> Iterable[tuple[str, str]]:
    """(word, normalized word) of each word that normalization does not remove."""
    return ((word, normal) for word in _WORD.findall(text) if (normal := _normal(word)))


_normal = functools.lru_cache(1 << 16)(normalize)
