"""Data from outside this repository; tests that need it are skipped where it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
RUNS = DATA / "seal_runs"
SQUAD_VAL = DATA / "squad" / "squad_val.json"
ARC = DATA / "arc"

needs_runs = pytest.mark.skipif(not RUNS.is_dir(), reason=f"SEAL's recorded runs are not at {RUNS}")
needs_squad = pytest.mark.skipif(not SQUAD_VAL.is_file(), reason=f"SQuAD's passages are not at {SQUAD_VAL}")
needs_arc = pytest.mark.skipif(not ARC.is_dir(), reason=f"ARC's tasks are not at {ARC}")
