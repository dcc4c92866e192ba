"""``python -m delineate`` is the ``delineate`` command."""

from delineate.cli.main import main

main()
