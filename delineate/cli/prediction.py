"""``delineate predict`` and ``delineate export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from delineate.cli.refinement import CRF, HOLES, ISLANDS, SUPERPIXELS, TTA


def predict_command(
    run: Annotated[Path, typer.Argument(help="A run folder, or its model.safetensors.")],
    images: Annotated[list[str], typer.Argument(help="Image files, folders or globs.")],
    out: Annotated[Path, typer.Option(help="Where overlays/, masks/ and predictions.json go.")] = Path("predictions"),
    tile: Annotated[int | None, typer.Option(help="Work in squares of this many pixels, for large images.")] = None,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring tiles share.")] = 64,
    overlays: Annotated[bool, typer.Option(help="Write pictures with the classes painted over.")] = True,
    tta: TTA = "",
    crf: CRF = "",
    superpixels: SUPERPIXELS = "",
    islands: ISLANDS = 0,
    holes: HOLES = 0,
    score: Annotated[
        float | None,
        typer.Option(help="Objects: show those of this score and above; the recipe's or 0.3 when left out."),
    ] = None,
    specific: Annotated[
        float | None,
        typer.Option(help="Trees of words: show the most specific word above this probability; 0.5 when left out."),
    ] = None,
) -> None:
    """Predict what is where: overlays to look at, COCO JSON that other tools open, and of segmenters id PNGs."""
    from delineate.cli.tables import counted
    from delineate.engine.prediction import predict_files
    from delineate.progress import progress_bar

    refinement = {"tta": tta, "crf": crf, "superpixels": superpixels, "islands": islands, "holes": holes}
    chosen: dict[str, Any] = {name: value for name, value in refinement.items() if value}
    if score is not None:
        chosen["score_threshold"] = score
    if specific is not None:
        chosen["specific"] = specific
    with progress_bar("predicting") as progress:
        written = predict_files(
            run, images, out=out, tile=tile, overlap=overlap, overlays=overlays, progress=progress, **chosen
        )
    for failure in written.failures:
        typer.echo(f"skipped: {failure}", err=True)
    places = [out / "masks"] if (out / "masks").is_dir() and any((out / "masks").iterdir()) else []
    typer.echo(f"{counted(written.count, 'image')}: {', '.join(map(str, [*places, out / 'predictions.json']))}")
    if overlays and written.count:
        typer.echo(f"pictures: {out / 'overlays'}")
    raise typer.Exit(1 if written.failures else 0)


def export_command(
    run: Annotated[Path, typer.Argument(help="A run folder, or its model.safetensors.")],
    format: Annotated[str, typer.Option("--format", help="The format: onnx.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The file; model.onnx beside the weights when left out.")] = None,
) -> None:
    """Write the model for other runtimes, and check that it gives the same numbers there."""
    from delineate.engine.weights import load_weights
    from delineate.export.catalogue import EXPORTERS

    exporter = EXPORTERS[format]
    target = out or (run if run.is_dir() else run.parent) / f"model.{format}"
    model, card = load_weights(run)
    typer.echo(f"{format}: {exporter(model, target, card)}")
