"""``python -m benchmarks.gpu --out DIR``: one command that proves and measures the student on a GPU, in ten minutes.

:mod:`~benchmarks.gpu.suite` runs the stages and keeps what they return, one JSON line each; other modules are stages,
or the table that is made of the lines. It needs no network and no model files.
"""
