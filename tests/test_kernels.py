"""The compiled kernels touch no memory but their own, with wide and with narrow vectors."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

import seal_env.student

SOURCE = Path(seal_env.student.__file__).with_name("kernels.c")
HARNESS = Path(__file__).with_name("kernels_sanitized.c")
ARCHITECTURES = ["native", "haswell"] if platform.machine() == "x86_64" else ["native"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_stay_within_their_arrays(tmp_path, architecture):
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc here")
    program = tmp_path / "kernels"
    flags = ["-O1", "-g", f"-march={architecture}", "-fopenmp", "-fsanitize=address,undefined", "-fno-sanitize=alignment"]
    flags += ["-fno-sanitize-recover", "-fno-math-errno", "-fno-trapping-math", f'-DKERNELS="{SOURCE}"']
    built = subprocess.run([compiler, *flags, str(HARNESS), "-o", str(program), "-lm"], capture_output=True, text=True)
    if "cannot find" in built.stderr:
        pytest.skip(f"no sanitizer library here: {built.stderr.splitlines()[0]}")
    assert built.returncode == 0, built.stderr
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "ASAN_OPTIONS": "detect_leaks=1"}
    ran = subprocess.run([str(program)], capture_output=True, text=True, env=settings)
    assert ran.returncode == 0 and ran.stdout == "clean\n", ran.stderr[-2000:]
