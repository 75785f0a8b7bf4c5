"""Where `torch.compile` keeps its files, and what it says when it fails."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from kdmodels.errors import UserError
from kdmodels.folders import cache_folder, private_folder

_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


@contextmanager
def told_by_compiler(compiling: bool) -> Iterator[None]:
    """Turn a failure of torch.compile inside the block into one line.

    Raises:
        UserError: the step can't be compiled, for instance since there is no C++ compiler.
    """
    if not compiling:
        yield
        return
    _keep_private()
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    try:
        yield
    except TorchDynamoException as error:
        told = str(error).strip().partition("\n")[0]
        raise UserError(f"compile: true: torch.compile failed ({told}); allowed here: false") from error


def _keep_private() -> None:
    """Have torch, and triton below it, compile in the user's cache folder.

    Torch's default is a folder in the temporary directory whose name anybody can tell and prepare with code of theirs.
    Another folder that the user names is kept.
    """
    default = os.path.join(tempfile.gettempdir(), "torchinductor_")  # torch itself sets the variable to it, once asked
    if not os.environ.get(_FOLDER, default).startswith(default):
        return
    try:
        os.environ[_FOLDER] = str(private_folder(cache_folder() / "compiled"))
    except OSError as error:
        raise UserError(
            f"compile: true: {cache_folder()} can't hold compiled code: {error.strerror}; allowed: a folder that only "
            "this user can write to, by $XDG_CACHE_HOME"
        ) from error
