"""A peer's side in a process of its own, as its users start it: ``python -m bench.peer MODULE [ARGUMENT ...]``.

Ours runs as the command line runs it, with its threads and memory set for networks (:mod:`delineate.machine`); a plain
script has neither. ``peer(*arguments)`` of the module is called once and returns the function to time; that is called
for each line read, and what it returns is printed as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Any

from bench import PLAIN


class Peer:
    """The other side of a comparison; a call does the work once, in its process.

    Args:
        module: of ``bench``, which has a function ``peer``.
        arguments: of that function.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.peer", module, *arguments],
            env={name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | {PLAIN: "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self) -> Any:
        """What the peer's work returns."""
        asked, said = self._process.stdin, self._process.stdout
        assert asked is not None
        assert said is not None
        asked.write("\n")
        asked.flush()
        line = said.readline()
        if not line:
            raise SystemExit("the peer's process ended")
        return json.loads(line)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def main(module: str, *arguments: str) -> None:
    """Serve one peer until standard input ends."""
    work = importlib.import_module(f"bench.{module}").peer(*arguments)
    for _ in sys.stdin:
        print(json.dumps(work()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
