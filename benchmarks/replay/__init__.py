"""SEAL's recorded runs, put through this project's code: ``recordings`` reads them, ``grading`` judges their answers again,
``accuracy``, ``proxies`` and ``reproduction`` compute the sections, ``statistics`` and ``tables`` serve all of them."""
