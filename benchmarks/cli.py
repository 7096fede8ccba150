"""Train, evaluate and compare agents on SEAL environments. ``seal-bench COMMAND --help`` has options and examples."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

# name -> module and one line of help. A module has a docstring, EXAMPLES, add_arguments(parser) and run(arguments). It is
# imported when its command is chosen; list, eval, adapt and speed import torch only when they run.
COMMANDS = {
    "run": ("benchmarks.commands.run", "train and evaluate agents and baselines on equal budgets"),
    "report": ("benchmarks.commands.report", "write tables, curves and a page from run directories"),
    "list": ("benchmarks.commands.listing", "list environments, datasets, formats, graders, agents and configs"),
    "eval": ("benchmarks.commands.evaluate", "evaluate a policy, a file of edits or a baseline"),
    "regrade": ("benchmarks.commands.regrade", "grade the stored answers of a benchmark with another grader"),
    "tune": ("benchmarks.commands.tune", "choose adapter, inner loop and temperature for a model on validation tasks"),
    "adapt": ("benchmarks.commands.adapt", "train an adapter on your own documents"),
    "replay": ("benchmarks.commands.replay", "score SEAL's recorded runs again and compare with the paper"),
    "speed": ("benchmarks.commands.speed", "measure seconds per self-edit against PEFT and Trainer"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command in ``argv``.

    Returns:
        The exit status: 0, 2 after an error that the user can correct, which is printed as one line, or 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # Transformers shows one for every model that is loaded
    parser = argparse.ArgumentParser(prog="seal-bench", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    try:
        for name, (module, summary) in COMMANDS.items():
            subparser = subparsers.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
            if argv[:1] == [name]:
                command = importlib.import_module(module)
                subparser.description, subparser.epilog = command.__doc__, command.EXAMPLES
                command.add_arguments(subparser)
        arguments = parser.parse_args(argv)
        command.run(arguments)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        print(f"seal-bench: {message}", file=sys.stderr)
        return 2
    return 0


def _message(error: Exception) -> str | None:
    """What to print for an error that the user can correct; None for a defect of the program."""
    from seal_env.errors import SealError, missing_extra

    if missing := missing_extra(error):
        return missing
    return str(error) if isinstance(error, ValueError | OSError | ImportError | SealError) else None


if __name__ == "__main__":
    raise SystemExit(main())
