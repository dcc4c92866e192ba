"""Speed as ratios to today's tools, measured in one run: ``make bench`` or ``python -m bench [NAME ...]``."""

import os

from delineate.machine import prepare_process

if "DELINEATE_BENCH_PEER" not in os.environ:
    prepare_process()  # as the command line does; before torch loads
