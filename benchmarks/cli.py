"""``seal-bench``: one command a job; ``seal-bench COMMAND --help`` has examples."""

from __future__ import annotations

import argparse
import sys

from transformers.utils import logging

from benchmarks import run, speed


def main(argv: list[str] | None = None) -> int:
    """Run the command in ``argv``; returns the exit status (2 where an argument is unusable, 130 after Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="seal-bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser(
        "run",
        help="agents and baselines on equal budgets",
        description=run.__doc__,
        epilog=run.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_arguments(running)
    running.set_defaults(job=run.run)
    timing = commands.add_parser("speed", help="seconds per self-edit, beside PEFT and Trainer loops")
    speed.add_arguments(timing)
    timing.set_defaults(job=speed.run)
    arguments = parser.parse_args(argv)
    logging.disable_progress_bar()  # of weights being loaded, again for every run
    try:
        arguments.job(arguments)
    except (ValueError, OSError) as error:
        print(f"seal-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
