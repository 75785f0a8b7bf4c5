"""What `torch.compile` says when it fails."""

from collections.abc import Iterator
from contextlib import contextmanager

from kdmodels.compiled import prepare_folder
from kdmodels.errors import UserError


@contextmanager
def told_by_compiler(compiling: bool) -> Iterator[None]:
    """Turn a failure of torch.compile inside the block into one line.

    Raises:
        UserError: the step can't be compiled, for instance since there is no C++ compiler.
    """
    if not compiling:
        yield
        return
    prepare_folder()
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    try:
        yield
    except TorchDynamoException as error:
        told = str(error).strip().partition("\n")[0]
        raise UserError(f"compile: true: torch.compile failed ({told}); allowed here: false") from error
