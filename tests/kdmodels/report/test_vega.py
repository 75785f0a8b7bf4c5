"""Vega's JavaScript and pictures of charts."""

import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
import vl_convert

from kdmodels.report.components import Chart
from kdmodels.report.vega import bundle, to_file

CHART = Chart(
    "points",
    "Accuracy by variant",
    "Two points.",
    {
        "width": 200,
        "data": {"values": [{"variant": "<kd & co>", "accuracy": 96.1}, {"variant": "hint", "accuracy": 91.2}]},
        "mark": "point",
        "encoding": {"x": {"field": "accuracy", "type": "quantitative"}, "y": {"field": "variant", "type": "nominal"}},
    },
)


def test_the_bundle_is_kept_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = bundle()
    assert "vegaEmbed" in first
    assert "</script" not in first
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda *_: pytest.fail("the bundle was built again"))
    assert bundle() == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "vegaEmbed" in bundle()


def test_a_chart_as_svg_has_its_title_and_names() -> None:
    root = ElementTree.fromstring(to_file(CHART, "svg"))
    texts = [element.text for element in root.iter() if element.text]
    assert {"Accuracy by variant", "<kd & co>", "hint"} <= set(texts)


def test_a_chart_as_png_has_two_pixels_per_point() -> None:
    png = to_file(CHART, "png")
    assert png.startswith(b"\x89PNG\r\n")
    width, _ = struct.unpack(">II", png[16:24])
    assert width > 2 * 200
