"""`kd`, killed by the system at a call: python dying.py MODULE:NAME[.NAME] COUNT WORDS...

At the COUNTth call, before anything of it is done, the process gets SIGKILL.
"""

import importlib
import os
import signal
import sys
from typing import Any


def main() -> int:
    module, _, path = sys.argv[1].partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    called, left = getattr(owner, name), [int(sys.argv[2])]

    def dying(*words: Any, **named: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return called(*words, **named)

    setattr(owner, name, dying)
    sys.argv = ["kd", *sys.argv[3:]]
    from flows.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
