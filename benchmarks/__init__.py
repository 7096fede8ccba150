"""``seal-bench``: train, evaluate and compare agents; and the scripts that measure what the documentation states."""

from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"  # the benchmarks of ``seal-bench run --config NAME``
DEFAULTS = "defaults"  # the file with defaults by environment, which is no benchmark
