"""The error that is raised for an ONNX file that kdflow refuses to serve."""

from kdmodels.errors import UserError


class RefusedError(UserError):
    """Error for an ONNX file that kdflow refuses to serve. The message states the reason."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, truncated to 200 characters.

    If the message is empty, return the name of the error's type.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
