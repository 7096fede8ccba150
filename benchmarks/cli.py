"""``seal-bench``: one command a benchmark."""

from __future__ import annotations

import argparse
import sys

from benchmarks import speed


def main(argv: list[str] | None = None) -> int:
    """Run the command in ``argv``; returns the exit status (2 where an argument is unusable)."""
    parser = argparse.ArgumentParser(prog="seal-bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    speed.add_arguments(commands.add_parser("speed", help="seconds per self-edit, beside PEFT and Trainer loops"))
    arguments = parser.parse_args(argv)
    try:
        speed.run(arguments)
    except ValueError as error:
        print(f"seal-bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
