"""How docstrings become pages: doctests as code, links for roles, a paragraph each for Source and Differs."""

from __future__ import annotations

import re
from typing import Any

import griffe

_PARAGRAPHS = re.compile(r"^(Source|Differs):[ \t]*", re.MULTILINE)
_EXAMPLE = re.compile(r"^Example:[ \t]*$", re.MULTILINE)
_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`(~?)([\w.]+)`")


class HouseDocstrings(griffe.Extension):
    """Rewrites what griffe's Google parser does not know, before it parses."""

    def on_object(self, *, obj: griffe.Object, **rest: Any) -> None:
        """Change the text of one module's, class's, function's or attribute's docstring."""
        if obj.docstring is not None:
            text = _PARAGRAPHS.sub(r"\n**\1:** ", obj.docstring.value)
            text = _ROLE.sub(_link, text)
            obj.docstring.value = _EXAMPLE.sub("Examples:", text)


def _link(role: re.Match[str]) -> str:
    """A link for a full name, with a tilde its last part only; plain code for a short one."""
    short, name = role.groups()
    if not name.startswith("delineate."):
        return f"`{name}`"
    return f"[`{name.rpartition('.')[2] if short else name}`][{name}]"
