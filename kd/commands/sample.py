"""The command `kd sample`. It generates images with a registered generator."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from kdmodels.errors import UsageError
from kdmodels.generators.grid import grid_png
from kdmodels.text import escaped
from tasks.sample import columns_of, sample, write_png

MOST = 10_000


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Registered generator: name, name@alias, name/3 or a models:/ URI.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="PNG file to write: a grid of the images.")],
    count: Annotated[int, typer.Option("-n", min=1, max=MOST, help="Number of images.")] = 64,
    class_: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Class of the images, for a conditional generator.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the images.")] = 0,
) -> None:
    """Generate images with a registered generator."""
    if out.suffix != ".png":
        raise UsageError(f"--out {out}: expected a file name that ends with .png")
    images, served = sample(model, count, name=class_, seed=seed)
    write_png(grid_png(images, columns_of(count, served, class_)), out)
    print(escaped(f"wrote {count} images to {out}"), file=sys.stderr)
