"""The conversion of failures of `torch.compile` to errors with a message for the user."""

from collections.abc import Iterator
from contextlib import contextmanager

from kdmodels.errors import UserError
from kdmodels.files.torch_cache import prepare_folder
from kdmodels.torch_internals import compiler_exception


@contextmanager
def compile_errors_as_user_errors(compiling: bool) -> Iterator[None]:
    """Convert a failure of `torch.compile` inside the context to an error with a message of one line.

    Args:
        compiling: Whether the training step is compiled. If False, the context does nothing.

    Raises:
        UserError: The training step cannot be compiled, for example because there is no C++ compiler.
    """
    if not compiling:
        yield
        return
    prepare_folder()
    try:
        yield
    except compiler_exception() as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"compile: true: torch.compile failed ({reason}). Allowed here: false") from error
