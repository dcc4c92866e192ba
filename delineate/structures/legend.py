"""A picture with a legend of its classes beside it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from delineate.structures.taxonomy import Colour

_SHORTEST_SIDE, _LONGEST_SIDE = 320, 960  # smaller pictures are enlarged by a whole factor
_MOST_ENTRIES, _FEWEST_ROWS = 36, 6
_PAPER, _INK, _FAINT = (255, 255, 255), (32, 32, 32), (150, 150, 150)


def with_legend(picture: Image.Image, entries: Sequence[tuple[Colour, str, float]]) -> Image.Image:
    """The picture, enlarged where it is small, with the legend to its right.

    Args:
        picture: RGB.
        entries: colour, name and share (0 to 1) of each class; no entries, no legend. Of many, the largest are listed.

    Returns:
        RGB; as high as the (enlarged) picture, the legend in as many columns as that takes.
    """
    picture, _ = enlarged(picture)
    if not entries:
        return picture
    left_out = len(entries) - _MOST_ENTRIES
    if left_out > 0:
        ranked = sorted(range(len(entries)), key=lambda place: -entries[place][2])
        entries = [entries[place] for place in sorted(ranked[:_MOST_ENTRIES])]
        rest = 1 - sum(share for _, _, share in entries)
        entries.append((_PAPER, f"and {left_out} more", max(rest, 0.0)))
    text = max(14, round(min(picture.size) / 36))
    font = ImageFont.load_default(size=text)
    row, gap = round(text * 1.6), round(text * 0.6)
    shares = [_share_text(share) for _, _, share in entries]
    name_width = max(round(font.getlength(_shortened(name))) for _, name, _ in entries)
    share_width = max(round(font.getlength(share)) for share in shares)
    column_width = text + gap + name_width + gap + share_width + 2 * gap
    rows = min(len(entries), max(_FEWEST_ROWS, (picture.height - 2 * gap) // row))
    columns = -(-len(entries) // rows)
    height = max(picture.height, rows * row + 2 * gap)
    sheet = Image.new("RGB", (picture.width + gap + columns * column_width, height), _PAPER)
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for place, ((colour, name, _), share) in enumerate(zip(entries, shares, strict=True)):
        left = picture.width + 2 * gap + place // rows * column_width
        middle = gap + place % rows * row + row // 2
        draw.rectangle((left, middle - text // 2, left + text - 1, middle + text // 2), fill=colour, outline=_FAINT)
        draw.text((left + text + gap, middle), _shortened(name), fill=_INK, font=font, anchor="lm")
        right = left + text + gap + name_width + gap + share_width
        draw.text((right, middle), share, fill=_FAINT, font=font, anchor="rm")
    return sheet


def enlarged(picture: Image.Image) -> tuple[Image.Image, int]:
    """The picture, enlarged by a whole factor where it is small, and that factor.

    Example:
        >>> enlarged(Image.new("RGB", (100, 160)))[1]
        4
    """
    factor = max(1, min(-(-_SHORTEST_SIDE // min(picture.size)), _LONGEST_SIDE // max(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return picture, factor


def _share_text(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}" if share >= 0.0005 else "< 0.1%"


def _shortened(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}\N{HORIZONTAL ELLIPSIS}"
