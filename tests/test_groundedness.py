"""How much of an edit its passage supports."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from benchmarks.reports.metrics import METRICS
from seal_env.rewards.groundedness import groundedness

TITLE, CONTEXT = "Otrar", "The town of Otrar fell in 1219 to Genghis Khan. Its governor, Inalchuq, had 1,250 men."


@pytest.mark.parametrize(
    ("edit", "share"),
    [
        ("It fell in 1219.", 1.0),
        ("It fell in 1220.", 0.0),
        ("The army of Genghis Khan came in 1220.", 2 / 3),
        ("Many men fell. Nobody knows why. Otrar fell.", None),  # first words, and the title
        ("1. It had 1,250 men.\n2. It had 900 men.", 1 / 2),  # not the numbers of the lines
        ("Question 1: Who came?\nAnswer: Genghis Khan\nQuestion 2: When?\nAnswer: in 1219", 1.0),
        ("It was Genghis Khan's town, and Inalchuq\u2019s.", 1.0),  # a possessive is the name
        ("", None),
        ("they say that INALCHUQ and Jochi met", 1 / 2),
    ],
)
def test_it_is_the_share_of_names_and_numbers_that_the_passage_has(edit, share):
    result = groundedness(edit, TITLE, CONTEXT)
    assert result == (None if share is None else pytest.approx(share))


def test_the_report_has_it_and_how_repetitive_edits_are():
    def frame(*texts: str) -> pd.DataFrame:
        return pd.DataFrame({"text": pd.Series(texts, dtype=object), "passage_title": TITLE, "context": CONTEXT})

    grounded, compression = METRICS.get("grounded").per_point, METRICS.get("compression").per_point
    assert grounded(frame("It fell in 1219.", "It fell in 1220.", "Nobody knows.")) == 0.5
    assert grounded(frame("Nobody knows.")) is None
    varied = "It fell in 1219. The governor was Inalchuq, whose men were few. Genghis Khan came from the east."
    assert compression(frame(varied)) < compression(frame(varied, varied, varied))
    assert compression(frame("", "")) is None and math.isfinite(compression(frame("\ud800 lone surrogates", "")))
