"""Channels of charts in Vega-Lite: a field of the data that becomes a position, a colour, a shape or a tooltip.

The names of fields are constants of this library. Names from stores and files are only ever values of the data.
"""

from collections.abc import Sequence

from pydantic import JsonValue

Channel = dict[str, JsonValue]


def number(field: str, title: str | None = None, *, log: bool = False) -> Channel:
    """Return a channel for numbers, on a scale that need not contain 0.

    Args:
        field: The name of the field.
        title: The title of the axis. Default: no title.
        log: Whether the scale is logarithmic.
    """
    scale: JsonValue = {"type": "log"} if log else {"zero": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


def name(field: str, title: str | None = None, *, order: Sequence[str] | None = None) -> Channel:
    """Return a channel for names.

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
        **numbers: The fields that hold numbers, each with the format of d3, e.g. `.2f`.
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


def points(value: float | None) -> float | None:
    """Return a share in percent with 4 decimals, which is more than a tooltip shows.

    >>> points(0.96116666), points(None)
    (96.1167, None)
    """
    return None if value is None else round(100 * value, 4)
