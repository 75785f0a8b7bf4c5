"""Vega, which draws the charts: the JavaScript of Vega for a page, and charts as SVG and PNG files.

The package vl-convert contains Vega and a JavaScript engine, so neither a browser nor a network is needed.
"""

from contextlib import suppress
from importlib.metadata import version
from typing import Literal

import vl_convert

from kdmodels.files.atomic import write_whole
from kdmodels.files.folders import cache_folder, private_folder
from kdmodels.report.components import Chart

VEGA_LITE = "6.4"
EXPORT = "window.vegaEmbed = vegaEmbed;"  # makes the function visible to other scripts of the page
PIXELS = 2.0  # resolution of PNG files: pixels of the file per pixel of the chart

PRINT_CONFIG = {
    "background": "white",
    "view": {"stroke": None},
    "font": "DejaVu Sans, Liberation Sans, sans-serif",
    "range": {"category": ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B"]},
}


def bundle() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed, about 0.9 MB, for a `<script>` element.

    The first call on a machine takes 2 s. The result is kept in the cache folder, unless the folder can't be written.
    """
    file = cache_folder() / "report" / f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    try:
        return file.read_text(encoding="utf-8")
    except OSError:  # usually because the file does not exist yet
        script = str(vl_convert.javascript_bundle(EXPORT, VEGA_LITE)).replace("</script", "<\\/script")
        with suppress(OSError):
            private_folder(file.parent)
            write_whole(file, lambda partial: partial.write_text(script, encoding="utf-8"))
        return script


FileKind = Literal["svg", "png"]


def to_file(chart: Chart, kind: FileKind) -> bytes:
    """Return a chart as the content of an SVG or PNG file with a white background."""
    spec = {"title": chart.title, **chart.spec}
    if kind == "svg":
        return str(vl_convert.vegalite_to_svg(spec, VEGA_LITE, config=PRINT_CONFIG)).encode()
    return bytes(vl_convert.vegalite_to_png(spec, VEGA_LITE, config=PRINT_CONFIG, scale=PIXELS))
