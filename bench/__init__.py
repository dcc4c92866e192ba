"""Speed as ratios to today's tools, measured in one run: ``make bench`` or ``python -m bench [NAME ...]``."""
