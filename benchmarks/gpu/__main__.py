"""Test and measure the student on a GPU: ``python -m benchmarks.gpu --out DIR``.

Stages run in order of importance, each with a time limit, and each appends a line to DIR/stages.jsonl when it ends. If a run is
interrupted, the same command resumes with the remaining stages. The table at the end contains these lines only. No network and
no model files are needed.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from benchmarks.gpu import correctness, learning
from benchmarks.gpu.profiling import profile_model
from benchmarks.gpu.slots import memory
from benchmarks.gpu.suite import Context, Stage, run_stages, table
from benchmarks.gpu.timing import ADAPTERS, bars_7b, bars_half_b, speed
from seal_env._version import __version__
from seal_env.files import atomic_write
from seal_env.student.loading import check_device

_QV, _ALL = ADAPTERS


def stages(tiny: bool, folder: str | None) -> list[Stage]:
    """All stages in order of importance; ``tiny`` replaces large models by small ones. ``folder`` is another model, or None."""
    seven, half, billion = ("shape:qwen2-3m", "shape:llama-2m", "shape:llama-2m-deep") if tiny else (
        "shape:qwen2.5-7b",
        "shape:qwen2.5-0.5b",
        "shape:llama-3.2-1b",
    )  # fmt: skip
    own = [Stage("speed-model-qv", speed(folder, _QV), 90, 150)] if folder else []
    return [
        Stage("correctness", correctness.run, 60, 150),
        Stage("speed-7b-qv", speed(seven, _QV, bars_7b), 60, 210),
        Stage("profile-7b", profile_model(seven), 20, 60),
        Stage("speed-0.5b-qv", speed(half, _QV, bars_half_b), 30, 70),
        Stage("profile-0.5b", profile_model(half), 15, 40),
        *own,
        Stage("benchmark", learning.run, 20, 45),
        Stage("memory", memory(seven), 40, 80),
        Stage("speed-7b-all", speed(seven, _ALL), 60, 120),
        Stage("speed-0.5b-all", speed(half, _ALL), 25, 50),
        Stage("speed-1b-qv", speed(billion, _QV), 30, 60),
        Stage("speed-1b-all", speed(billion, _ALL), 30, 60),
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the suite; the exit status is 1 if a stage failed or a check did not pass, 2 if an argument is invalid."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for stages.jsonl, table.md and profiles")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="stages that take longer than the remaining time are skipped"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a dry run with tiny models and no bars on speed, for a CPU")
    parser.add_argument("--stages", help="names of the stages to run, separated by commas")
    parser.add_argument("--model", help="a folder with a model, to measure its speed with its own weights, too")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        device = check_device(arguments.device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        known = {stage.name: stage for stage in stages(arguments.tiny, arguments.model)}
        selected = arguments.stages.split(",") if arguments.stages else list(known)
        if unknown := sorted(set(selected) - set(known)):
            raise ValueError(f"--stages {unknown[0]!r}: there are {', '.join(known)}")
        if arguments.minutes < 0:
            raise ValueError(f"--minutes must not be negative, got {arguments.minutes}")
        chosen = [known[name] for name in known if name in selected]
        context = Context(device, arguments.tiny, arguments.out, arguments.model)
        records = run_stages(chosen, context, header(device, arguments), arguments.minutes)
    except ValueError as error:
        print(f"python -m benchmarks.gpu: {error}", file=sys.stderr)
        return 2
    text = table(records.lines)
    with atomic_write(arguments.out / "table.md") as partial:
        partial.write_text(text)
    print("\n" + text)
    last = {line["stage"]: line for line in records.lines}
    passed = all(entry["passed"] for line in last.values() for entry in line.get("checks", []))
    return 0 if passed and not any(line["status"] == "failed" for line in last.values()) else 1


def header(device: torch.device, arguments: argparse.Namespace) -> dict[str, Any]:
    """Versions and hardware of the measurements."""
    about: dict[str, Any] = {"device": device.type, "card": platform.processor() or platform.machine()}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        about |= {
            "card": card.name,
            "compute capability": f"{card.major}.{card.minor}",
            "memory": f"{card.total_memory / 2**30:.1f} GiB",
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0],
            "CUDA": torch.version.cuda,
        }
    about |= {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    about |= {"python": platform.python_version(), "seal-env": __version__, "threads": torch.get_num_threads()}
    revision = _output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12")
    return about | {"revision": revision, "tiny": arguments.tiny, "model": arguments.model}


def _output(*command: str) -> str:
    """Output of a program; ``unknown`` if there is no such program, or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip() or "unknown"
    except (OSError, subprocess.SubprocessError):
        return "unknown"


if __name__ == "__main__":
    raise SystemExit(main())
