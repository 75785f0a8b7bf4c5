"""Channels of Vega-Lite charts. A channel shows a field of the data as a position, a colour, a shape or a tooltip.

The names of fields are constants of this library. Names from stores and files are used only as values of the data and
as titles, never as names of fields.
"""

from collections.abc import Sequence

from pydantic import JsonValue

Channel = dict[str, JsonValue]
PADDING = 6  # pixels between the outermost values and the ends of an axis


def number(field: str, title: str | None = None, *, log: bool = False, lowest: float | None = None) -> Channel:
    """Return a channel for a field of numbers. The scale does not have to contain 0.

    Args:
        field: The name of the field.
        title: The title of the axis. Default: no title.
        log: Whether the scale is logarithmic.
        lowest: Start of the scale. Default: the lowest value.
    """
    kind: Channel = {"type": "log"} if log else {"zero": False}
    if lowest is not None:
        kind["domainMin"] = lowest
    scale: JsonValue = kind | {"nice": False, "padding": PADDING}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


def name(field: str, title: str | None = None, *, order: Sequence[str] | None = None) -> Channel:
    """Return a channel for a field of names.

    Args:
        field: The name of the field.
        title: The title of the axis or legend. Default: no title.
        order: The values of the field in the order of the axis or legend. Default: the order of the data.
    """
    return {"field": field, "type": "nominal", "title": title, "sort": None if order is None else list(order)}


def tooltip(*names: str, **numbers: str) -> JsonValue:
    """Return the channel of a tooltip.

    Args:
        *names: The fields that hold names.
        **numbers: The fields that hold numbers, each with its number format in d3's notation, e.g. `.2f`.
    """
    shown: list[JsonValue] = [{"field": field, "type": "nominal"} for field in names]
    shown += [{"field": field, "type": "quantitative", "format": format_} for field, format_ in numbers.items()]
    return shown


def values(rows: Sequence[Channel]) -> Channel:
    """Return the data of a chart, one mapping per row.

    >>> values([{"variant": "kd", "mean": 96.1}])
    {'values': [{'variant': 'kd', 'mean': 96.1}]}
    """
    return {"values": list(rows)}


def grid(panels: Sequence[Channel], columns: int = 3) -> Channel:
    """Return a chart that arranges panels in rows.

    Vega-Lite's `concat` with `columns` would be shorter, but its charts stay empty in the report's page.

    >>> grid([{"mark": "bar"}, {"mark": "line"}, {"mark": "rule"}], columns=2)
    {'vconcat': [{'hconcat': [{'mark': 'bar'}, {'mark': 'line'}]}, {'hconcat': [{'mark': 'rule'}]}]}
    """
    rows = [panels[begin : begin + columns] for begin in range(0, len(panels), columns)]
    return {"vconcat": [{"hconcat": list(row)} for row in rows]}


def colours(field: str, title: str, domain: Sequence[str]) -> Channel:
    """Return a channel that shows each name in `domain` in the same colour or shape in all panels.

    The symbols of the legend are opaque, even if the marks in the chart are transparent.
    """
    scale: JsonValue = {"domain": list(domain)}
    return name(field, title, order=domain) | {"scale": scale, "legend": {"symbolOpacity": 1}}
