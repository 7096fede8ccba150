"""`make wheelhouse` downloads only the packages that a target lacks, and `install` installs only those."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks import wheelhouse

ROOT = Path(__file__).parents[1]
NEEDED = [Requirement(text).name for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]]
TAG = "manylinux_2_17_x86_64"


def wheel(folder: Path, name: str, version: str, *needs: str, tag: str = "py3-none-any") -> None:
    """Write a wheel with one module and its metadata."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """The only index that pip uses."""
    folder = tmp_path / "index"
    for name in ("PIP_NO_INDEX", "PIP_DISABLE_PIP_VERSION_CHECK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def gather(tmp_path: Path, *lacks: str, **options) -> set[str]:
    has = {name: "" for name in NEEDED if name not in lacks} | {"numpy": "2.4"} | options.pop("has", {})
    wheels = wheelhouse.gather(tmp_path / "wheels", "3.12", "manylinux_2_28_x86_64", has, options.pop("extras", ()), options)
    assert set(wheels) == set((tmp_path / "wheels").iterdir()), "other wheels are deleted"
    return {path.name.partition("-")[0] for path in wheels}


def test_missing_packages_come_with_their_dependencies(index, tmp_path):
    wheel(
        index,
        "gymnasium",
        "1.4.0",
        "numpy>=1.21",
        "cloudpickle",
        "old; python_version < '3.12'",
        "mac; sys_platform == 'darwin'",
    )
    wheel(index, "cloudpickle", "3.1.3", "deep[more]>=2", "tests; extra == 'dev'")
    wheel(index, "deep", "2.1", "extra_of_deep; extra == 'more'", "other; extra == 'less'", tag=f"cp312-cp312-{TAG}")
    wheel(index, "deep", "2.2", tag="cp311-cp311-manylinux_2_17_x86_64")  # another Python's
    wheel(index, "extra_of_deep", "1.0", "cloudpickle")
    names = gather(tmp_path, "gymnasium", has={"numpy": "2.0"})
    assert names == {"gymnasium", "cloudpickle", "deep", "extra_of_deep"}
    assert (tmp_path / "wheels" / f"deep-2.1-cp312-cp312-{TAG}.whl").is_file()


def test_an_extra_of_what_the_target_has_is_gathered_without_the_package(index, tmp_path):
    wheel(index, "gymnasium", "1.4.0", "numpy[fast]")
    wheel(index, "numpy", "2.4.6", "usual", "speed; extra == 'fast'")
    wheel(index, "speed", "1.0")
    assert gather(tmp_path, "gymnasium") == {"gymnasium", "speed"}


def test_packages_of_the_target_must_meet_the_requirements(index, tmp_path):
    wheel(index, "gymnasium", "1.4.0", "numpy>=2.1")
    with pytest.raises(ValueError, match=r"numpy 2\.0 is what the target has, and numpy>=2\.1 is needed"):
        gather(tmp_path, "gymnasium", has={"numpy": "2.0"})
    with pytest.raises(ValueError, match=r"torch 2\.8 is what the target has"):
        gather(tmp_path, has={"torch": "2.8"})


def test_versions_are_those_of_the_constraints_unless_pinned(index, tmp_path):
    for version in ("1.3.0", "1.4.0", "1.9.0"):
        wheel(index, "gymnasium", version)
    gather(tmp_path, "gymnasium")
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["gymnasium-1.4.0-py3-none-any.whl"]
    gather(tmp_path, "gymnasium", gymnasium="1.3.0")
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["gymnasium-1.3.0-py3-none-any.whl"]


def test_only_missing_packages_are_installed(index, tmp_path):
    wheel(tmp_path / "wheels", "lacking_here", "1.0")
    wheel(tmp_path / "wheels", "numpy", "0.1")
    command = [sys.executable, "-m", "benchmarks.wheelhouse", "install", "--folder", str(tmp_path / "wheels")]
    done = subprocess.run([*command, "--target", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("site: lacking-here")
    assert (tmp_path / "site" / "lacking_here.py").is_file() and not (tmp_path / "site" / "numpy.py").exists()


def test_the_output_of_pip_freeze_is_parsed(tmp_path):
    lines = ["# comment", "-e git+x#egg=y", "numpy==2.4.6", "local @ file:///x/local-1.0.whl", ""]
    assert wheelhouse._versions(lines) == {"numpy": "2.4.6", "local": ""}
