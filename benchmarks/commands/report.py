"""``seal-bench report``: run directories as a table, as learning curves and as one page that needs no network."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.reports.figures import figures, save
from benchmarks.reports.metrics import METRICS, register_metric
from benchmarks.reports.page import page
from benchmarks.reports.report_tables import curves_csv, sequences_csv, table_csv, table_markdown, table_text
from benchmarks.reports.run_records import read
from benchmarks.reports.summary import COLLAPSE, Options, Summary, summarise
from seal_env.files import atomic_write

EXAMPLES = """examples:
  seal-bench report runs/squad
  seal-bench report runs/first runs/second --out report --reference untrained
  seal-bench report runs/squad --metric my_package.columns:STEPS
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="run directories; several with equal settings pool"
    )
    parser.add_argument("--out", type=Path, help="folder to write to (default: DIR/report)")
    parser.add_argument("--reference", help="agent that others are compared with (default: untrained)")
    parser.add_argument("--target", type=float, help="score to reach, 0 to 1 (default: halfway to the best)")
    parser.add_argument(
        "--collapse", type=float, default=COLLAPSE, help="drop from the best evaluation that counts as a collapse"
    )
    parser.add_argument(
        "--metric",
        dest="metrics",
        action="append",
        default=[],
        metavar="PACKAGE.MODULE:OBJECT",
        help="another column: a benchmarks.reports.metrics.Metric; may be repeated",
    )


def run(arguments: argparse.Namespace) -> Path:
    """Read the run directories, print the table and write the report; returns its folder.

    Raises:
        ValueError: an argument or a run directory cannot be used; the message names it.
    """
    if arguments.out is None and len(arguments.folders) > 1:
        raise ValueError("--out must name a folder where several benchmarks are pooled")
    for path in arguments.metrics:
        register_metric(METRICS.get(path))
    records = read(arguments.folders)
    summary = summarise(records, Options(arguments.reference, arguments.target, arguments.collapse))
    print(table_text(summary))
    out: Path = arguments.out or arguments.folders[0] / "report"
    write(summary, out)
    print(f"\n{out / 'report.html'}")
    return out


def write(summary: Summary, folder: Path) -> None:
    """Write ``table.md``, ``table.csv``, ``curves.csv``, ``curves`` and ``edits`` as PNG and SVG, and ``report.html``.

    If there are continual sequences, ``forgetting`` as CSV, PNG and SVG as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "table.md": table_markdown(summary),
        "table.csv": table_csv(summary),
        "curves.csv": curves_csv(summary),
        "report.html": page(summary),
    }
    if summary.sequence_rows:
        texts["forgetting.csv"] = sequences_csv(summary)
    for name, text in texts.items():
        with atomic_write(folder / name) as partial:
            partial.write_text(text, encoding="utf-8", errors="replace", newline="")
    for name, draw in figures(summary).items():
        figure = draw(summary)
        for kind in ("png", "svg"):
            with atomic_write(folder / f"{name}.{kind}") as partial:
                save(figure, partial, kind)
