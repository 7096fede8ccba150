"""``python -m benchmarks.gpu --out DIR`` tests and measures the student on a GPU in ten minutes, without network or model
files.

:mod:`~benchmarks.gpu.suite` runs the stages, saves the result of each as a JSON line and renders these lines as a table; the
other modules are stages.
"""
