"""``delineate tune-crf``, and the options by which ``predict`` and ``evaluate`` refine predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Refinement, in this order"

TTA = Annotated[
    str,
    typer.Option(
        help="Fuse the answers over views of the image, separated by commas: flip, vflip, scale, or "
        "scales=0.5+0.75+1 to choose them; fuse=max for the strongest answer instead of the mean.",
        rich_help_panel=PANEL,
    ),
]
CRF = Annotated[
    str,
    typer.Option(
        help="A dense CRF: default, its parameters (bilateral_weight=5,iterations=10), or the file of tune-crf.",
        rich_help_panel=PANEL,
    ),
]
SUPERPIXELS = Annotated[
    str,
    typer.Option(
        help="One answer for each superpixel: slic or graph, perhaps with options (slic,segments=800).",
        rich_help_panel=PANEL,
    ),
]
ISLANDS = Annotated[
    int,
    typer.Option(
        metavar="AREA",
        help="Regions of fewer pixels take the label around them; 0 keeps all.",
        rich_help_panel=PANEL,
    ),
]
HOLES = Annotated[
    int,
    typer.Option(
        metavar="AREA",
        help="Holes of at most so many pixels take the label around them; 0 keeps all.",
        rich_help_panel=PANEL,
    ),
]

SHOWN = 10  # rows of the table; the file has them all


def tune_crf_command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Option(help="The data set; the run's own when left out.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split; the run's validation split when left out.")] = None,
    images: Annotated[int, typer.Option(help="Search on at most this many images of the split.")] = 100,
    rounds: Annotated[int, typer.Option(help="The grid, then this many less one with half the steps.")] = 2,
    bilateral_weight: Annotated[str, typer.Option(help="Weights of the kernel of distance and colour.")] = "5,10",
    bilateral_sigma_xy: Annotated[str, typer.Option(help="Its standard deviations in pixels.")] = "50,75,100",
    bilateral_sigma_rgb: Annotated[str, typer.Option(help="Its standard deviations in grey levels.")] = "3,5,7,10",
    gaussian_weight: Annotated[str, typer.Option(help="Weights of the kernel of distance alone.")] = "3",
    gaussian_sigma: Annotated[str, typer.Option(help="Its standard deviations in pixels.")] = "3",
    iterations: Annotated[int, typer.Option(help="Mean-field iterations of every trial.")] = 10,
    tta: Annotated[
        str, typer.Option(help="Views whose answers are fused before the CRF, such as flip or scales=0.75+1,fuse=max.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="The file; crf.json in the run's folder when left out.")] = None,
) -> None:
    """Search the dense CRF's parameters that suit a run: a grid on validation images, coarse to fine.

    Several values are separated by commas. The file goes to --crf of predict
    and evaluate. Judge the result on other images than those searched on.

      [bold]delineate tune-crf RUN --images 50 --bilateral-weight 3,6,12[/bold]
    """
    from delineate.cli.tables import counted, print_table
    from delineate.engine.crf_search import WRITTEN, CRFGrid, tune_crf
    from delineate.progress import progress_bar

    grid = CRFGrid(
        bilateral_weight=numbers("bilateral-weight", bilateral_weight),
        bilateral_sigma_xy=numbers("bilateral-sigma-xy", bilateral_sigma_xy),
        bilateral_sigma_rgb=numbers("bilateral-sigma-rgb", bilateral_sigma_rgb),
        gaussian_weight=numbers("gaussian-weight", gaussian_weight),
        gaussian_sigma=numbers("gaussian-sigma", gaussian_sigma),
        iterations=iterations,
    )
    with progress_bar("searching") as progress:
        found = tune_crf(
            run, data=data, split=split, images=images, grid=grid, rounds=rounds, tta=tta, out=out, progress=progress
        )
    parameters = list(grid.values())
    varied = [name for name in parameters if len({getattr(trial.crf, name) for trial in found.trials}) > 1]
    rows: list[list[object]] = [
        [*(f"{getattr(trial.crf, name):g}" for name in varied), trial.miou, trial.pixel_accuracy]
        for trial in found.trials[:SHOWN]
    ]
    rows.append([*("-" for _ in varied), found.without.miou, found.without.pixel_accuracy])
    title = f"{found.data} / {found.split}: {counted(found.images, 'image')}, {counted(len(found.trials), 'trial')}"
    print_table([*varied, "mIoU", "pixel accuracy"], rows, title=title)
    fixed = ", ".join(f"{name} {getattr(found.best, name):g}" for name in parameters if name not in varied)
    if fixed:
        typer.echo(f"in all: {fixed}, {counted(iterations, 'iteration')}")
    path = out or run / WRITTEN
    best = found.trials[0]
    typer.echo(f"without a CRF: miou {found.without.miou:.4f}  best: miou {best.miou:.4f}")
    typer.echo(f"written: {path}")
    typer.echo(f"use it: delineate predict {run} IMAGES --crf {path}")


def numbers(option: str, text: str) -> list[float]:
    """The numbers of a text, which commas separate.

    Raises:
        ArgumentError: when one is none.

    Example:
        >>> numbers("bilateral-weight", "5, 7.5")
        [5.0, 7.5]
    """
    from delineate.errors import ArgumentError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(f"--{option} must be numbers with commas between them; got '{text}'.") from None
