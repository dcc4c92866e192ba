"""Speed as ratios to today's tools, measured in one run: ``make bench`` or ``python -m bench [NAME ...]``."""

import os

from delineate.machine import prepare_process

PLAIN = "DELINEATE_BENCH_PEER"  # in the environment of a peer's process, which stays as it is
if PLAIN not in os.environ:
    prepare_process()  # as the command line does; before torch loads
