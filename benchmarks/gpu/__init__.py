"""``python -m benchmarks.gpu --out DIR`` tests and measures the student on a GPU in ten minutes, without network or model
files.

:mod:`~benchmarks.gpu.suite` runs the stages and saves the result of each as a JSON line, :mod:`~benchmarks.gpu.table` renders
these lines, and the other modules are stages.
"""
