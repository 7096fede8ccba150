"""``seal-bench``: one command a job; ``seal-bench COMMAND --help`` has examples."""

from __future__ import annotations

import argparse
import sys

from transformers.utils import logging

from benchmarks.commands import adapt, evaluate, listing, replay, report, run, speed
from seal_env.distributed import WorkerMismatch, WorkersLost
from seal_env.evaluation.graders import GradingError

COMMANDS = {
    "run": (run, "agents and baselines on equal budgets"),
    "report": (report, "tables, curves and a page from run directories"),
    "list": (listing, "what there is to choose from"),
    "eval": (evaluate, "mean reward of a policy, a file of edits or a baseline"),
    "adapt": (adapt, "an adapter from documents of your own"),
    "replay": (replay, "SEAL's recorded runs through this code, beside what was published"),
    "speed": (speed, "seconds per self-edit, beside PEFT and Trainer loops"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command in ``argv``; returns the exit status (2 where an argument is unusable, 130 after Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="seal-bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=about,
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    arguments = parser.parse_args(argv)
    logging.disable_progress_bar()  # of weights being loaded, again for every run
    try:
        COMMANDS[arguments.command][0].run(arguments)
    except (ValueError, OSError, ImportError, GradingError, WorkerMismatch, WorkersLost) as error:
        print(f"seal-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
