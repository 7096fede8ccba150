"""Wheels for a machine without network: ``python -m benchmarks.wheelhouse gather``, and ``install`` on that machine.

``gather`` downloads to ``wheelhouse/`` the packages that seal-env needs and the target lacks, with their dependencies, and no
package that the target has, such as torch. Versions are those of constraints.txt where it pins them. ``install`` installs the
wheels that the target's Python lacks into a folder for PYTHONPATH. Neither imports torch.
"""

from __future__ import annotations

import argparse
import email
import importlib.metadata
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "wheelhouse"
# Packages of a typical machine-learning image for GPUs. Uncertain ones are left out: an unneeded wheel is small, and `install`
# skips it.
HAS = (
    "torch==2.11.0,transformers==5.17.0,peft,accelerate,safetensors,tokenizers,huggingface_hub,numpy,scipy,pandas,pyarrow,tensorboard,"
    "filelock,fsspec,jinja2,markupsafe,networkx,sympy,mpmath,typing_extensions,packaging,pyyaml,regex,tqdm,psutil,"
    "httpx,httpcore,h11,anyio,idna,certifi,hf-xet,python-dateutil"
)


def gather(
    folder: Path, python: str, platform: str, has: Mapping[str, str], extras: Iterable[str], pins: Mapping[str, str]
) -> list[Path]:
    """Download the wheels that a target lacks; returns their paths.

    Args:
        folder: for the wheels; other wheels in it are deleted.
        python: Python version of the target, such as ``3.12``.
        platform: platform tag of the target, such as ``manylinux_2_28_x86_64``.
        has: packages of the target, with versions; an empty version matches any requirement.
        extras: of seal-env, such as ``ppo``.
        pins: versions by package, in place of those of constraints.txt.

    Raises:
        ValueError: the target has, or another package needs, a version that does not meet a requirement.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    waiting += [Requirement(text) for extra in extras for text in project["optional-dependencies"][extra]]
    environment = _environment(python, platform)
    present = {str(canonicalize_name(name)): version for name, version in has.items()}
    taken: dict[str, Path] = {}
    visited: set[tuple[str, frozenset[str]]] = set()
    folder.mkdir(parents=True, exist_ok=True)
    while waiting:
        requirement = waiting.pop()
        name, wanted = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name == "seal-env":
            continue
        version = taken[name].name.split("-")[1] if name in taken else present.get(name, "")
        if version and not requirement.specifier.contains(version, prereleases=True):
            source = "is gathered" if name in taken else "is what the target has"
            raise ValueError(
                f"{name} {version} {source}, and {requirement} is needed: update it there, or pin another version of what needs"
                " it (--pin)"
            )
        if (name, wanted) in visited:
            continue
        visited.add((name, wanted))
        if name in present:
            if not wanted:
                continue
            with tempfile.TemporaryDirectory() as temporary:  # for what its extras need
                needs = _needs(
                    _download(requirement, Path(temporary), python, platform, pins), environment, wanted, only_extras=True
                )
        else:
            if name not in taken:
                taken[name] = _download(requirement, folder, python, platform, pins)
            needs = _needs(taken[name], environment, wanted)
        waiting += needs
    for old in set(folder.glob("*.whl")) - set(taken.values()):
        old.unlink()
    return sorted(taken.values())


def install(folder: Path, target: Path) -> list[str]:
    """Install the wheels of ``folder`` that this Python lacks into ``target``; returns their names."""
    wheels = {canonicalize_name(wheel.name.split("-")[0]): wheel for wheel in sorted(folder.glob("*.whl"))}
    present = {canonicalize_name(package.name) for package in importlib.metadata.distributions() if package.name}
    lacking = {name: wheel for name, wheel in wheels.items() if name not in present}
    if lacking:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade"]
        subprocess.run([*command, "--target", str(target), *map(str, lacking.values())], check=True)
    return sorted(lacking)


def _environment(python: str, platform: str) -> dict[str, str]:
    """The values of markers such as ``sys_platform`` on the target."""
    machine = next((m for m in ("x86_64", "aarch64", "ppc64le") if platform.endswith(m)), "x86_64")
    target = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": machine}
    target |= {"python_version": python, "python_full_version": f"{python}.0"}
    return {name: str(value) for name, value in default_environment().items()} | target


def _needs(wheel: Path, environment: Mapping[str, str], extras: frozenset[str], only_extras: bool = False) -> list[Requirement]:
    """The requirements of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    needed = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    return [
        requirement
        for requirement in needed
        if _applies(requirement, environment, extras) and not (only_extras and _applies(requirement, environment, frozenset()))
    ]


def _applies(requirement: Requirement, environment: Mapping[str, str], extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in extras or {""})


def _download(requirement: Requirement, folder: Path, python: str, platform: str, pins: Mapping[str, str]) -> Path:
    pinned = {canonicalize_name(name) for name in pins}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    kept = [line for line in lines if canonicalize_name(line.partition("==")[0]) not in pinned]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        constraints = Path(temporary) / "constraints.txt"
        constraints.write_text("\n".join([*kept, *(f"{name}=={version}" for name, version in pins.items())]))
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
                *("--implementation", "cp", "--python-version", python),
                *(part for tag in _tags(platform) for part in ("--platform", tag)),
                *("--constraint", str(constraints), "--dest", temporary),
                f"{requirement.name}{requirement.specifier}",
            ],
            check=True,
        )
        (wheel,) = Path(temporary).glob("*.whl")
        return wheel.replace(folder / wheel.name)


def _tags(platform: str) -> list[str]:
    """The platform tag and the older ones that it is compatible with."""
    prefix, _, machine = platform.partition("_x86_64") if platform.endswith("_x86_64") else platform.partition("_aarch64")
    if not prefix.startswith("manylinux_2_"):
        return [platform]
    ending = platform.removeprefix(prefix)
    newest = int(prefix.removeprefix("manylinux_2_"))
    return [*(f"manylinux_2_{minor}{ending}" for minor in range(newest, 4, -1)), f"manylinux2014{ending}"]


def _versions(lines: Iterable[str]) -> dict[str, str]:
    """Versions by name from ``NAME==VERSION`` or ``NAME``; other lines of ``pip freeze`` (comments, options) are skipped."""
    parts = (line.strip().partition("==") for line in lines if line.strip() and not line.strip().startswith(("-", "#")))
    return {name.partition(" @")[0]: version for name, _, version in parts}


def main(argv: list[str] | None = None) -> int:
    """Gather or install; returns the exit status, 2 after an error."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wheelhouse", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    gathering = commands.add_parser("gather", help="download the wheels that the target lacks")
    gathering.add_argument("--python", default="3.12", help="Python version of the target")
    gathering.add_argument("--platform", default="manylinux_2_28_x86_64", help="platform tag of the target")
    gathering.add_argument("--has", default=HAS, help="packages of the target, NAME or NAME==VERSION, separated by commas")
    gathering.add_argument("--freeze", type=Path, help="in place of --has: output of `pip freeze` on the target")
    gathering.add_argument("--pin", default="", help="NAME==VERSION, separated by commas, in place of those of constraints.txt")
    gathering.add_argument("--extras", default="", help="of seal-env, separated by commas, such as ppo")
    installing = commands.add_parser("install", help="install the wheels that this Python lacks")
    installing.add_argument("--target", type=Path, default=FOLDER / "site", help="folder for PYTHONPATH")
    for command in (gathering, installing):
        command.add_argument("--folder", type=Path, default=FOLDER, help="folder of the wheels")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "install":
            installed = install(arguments.folder, arguments.target)
            print(f"{arguments.target}: {', '.join(installed) or 'nothing is lacking'}")
            return 0
        lines = arguments.freeze.read_text().splitlines() if arguments.freeze else arguments.has.split(",")
        extras = [extra for extra in arguments.extras.split(",") if extra]
        pins = _versions(arguments.pin.split(","))
        wheels = gather(arguments.folder, arguments.python, arguments.platform, _versions(lines), extras, pins)
    except (ValueError, OSError, KeyError, subprocess.CalledProcessError) as error:
        print(f"python -m benchmarks.wheelhouse: {error}", file=sys.stderr)
        return 2
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 2**20:7.2f} MiB  {wheel.name}")
    print(f"{sum(wheel.stat().st_size for wheel in wheels) / 2**20:7.2f} MiB in {arguments.folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
