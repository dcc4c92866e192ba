"""Speed as ratios to today's tools, measured in one run: ``make bench`` or ``python -m bench [NAME ...]``."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as on the command line; read when torch loads, so before it
