"""Numbers for the data of charts."""

DIGITS = 5  # number of significant digits; a chart cannot show more


def rounded(value: float) -> float:
    """Round a number to 5 significant digits. This makes the data of charts smaller.

    >>> rounded(0.123456789), rounded(123456789.0), rounded(0.0)
    (0.12346, 123460000.0, 0.0)
    """
    return float(f"{value:.{DIGITS}g}")


def points(value: float | None) -> float | None:
    """Convert a share, from 0 to 1, to percent.

    >>> points(0.96116666), points(None)
    (96.117, None)
    """
    return None if value is None else rounded(100 * value)
