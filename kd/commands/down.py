"""The command `kd down`. It stops the `kd up` of this machine."""

import sys

from flows.services.detached import down


def command() -> None:
    """Stop `kd up`, and wait until its processes have ended."""
    state = down()
    print(f"stopped kd up (process {state.pid})" if state else "kd up does not run", file=sys.stderr)
