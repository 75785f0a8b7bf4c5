"""Functions that format numbers for tables."""


def accuracy(mean: float | None, std: float | None = None) -> str:
    """Format an accuracy in percent, followed by its standard deviation over seeds.

    >>> accuracy(0.9612, 0.0034), accuracy(0.9612), accuracy(None)
    ('96.12 ± 0.34', '96.12', '')
    """
    if mean is None:
        return ""
    return f"{100 * mean:.2f}" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f}"


def metric(mean: float | None, std: float | None = None) -> str:
    """Format a metric that is not a share, followed by its standard deviation over seeds.

    >>> metric(0.96124, 0.0034), metric(123.4), metric(None)
    ('0.9612 ± 0.0034', '123.4', '')
    """
    if mean is None:
        return ""
    return f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"


def percent(value: float | None) -> str:
    """Format a share in percent.

    >>> percent(0.9612), percent(None)
    ('96.12 %', '')
    """
    return "" if value is None else f"{100 * value:.2f} %"


def share(value: float | None) -> str:
    """Format a share in percent, without decimals.

    >>> share(0.4951), share(None)
    ('50 %', '')
    """
    return "" if value is None else f"{100 * value:.0f} %"


def interval(low: float | None, high: float | None) -> str:
    """Format an interval of shares in percent, or an interval of differences in percentage points, without the unit.

    >>> interval(0.9012, 0.95), interval(None, None)
    ('90.12 to 95.00', '')
    """
    return "" if low is None or high is None else f"{100 * low:z.2f} to {100 * high:z.2f}"


def difference(mean: float | None, low: float | None, high: float | None) -> str:
    """Format a difference of accuracies in percentage points, with its interval.

    >>> difference(0.012, 0.004, 0.02), difference(-0.012, None, None), difference(None, None, None)
    ('+1.20 (0.40 to 2.00)', '-1.20', '')
    >>> difference(-1e-9, -1e-9, 0.02)
    '+0.00 (0.00 to 2.00)'
    """
    if mean is None:
        return ""
    return f"{100 * mean:+z.2f}" + (f" ({interval(low, high)})" if interval(low, high) else "")


def amount(value: float | None) -> str:
    """Format a cost. Round a cost below 100 to three significant digits, and a larger cost to a whole number.

    >>> amount(52874), amount(0.0012345), amount(None)
    ('52,874', '0.00123', '')
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def p_value(p: float | None) -> str:
    """Format a p-value with three decimals. The promotion gate uses the same format.

    >>> p_value(0.0123), p_value(1e-6), p_value(None)
    ('0.012', '< 0.001', '')
    """
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
