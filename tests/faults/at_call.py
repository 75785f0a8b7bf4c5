"""`kd`, to which something happens at a call: python at_call.py MODULE:NAME[.NAME] COUNT SHELL-COMMAND WORDS...

At the COUNTth call, before anything of it is done, the command is run to its end; in it $PPID is the process. The
call raises where the command fails.
"""

import importlib
import subprocess
import sys
from typing import Any


def main() -> None:
    module, _, path = sys.argv[1].partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    called, left, command = getattr(owner, name), [int(sys.argv[2])], sys.argv[3]

    def watched(*words: Any, **named: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return called(*words, **named)

    setattr(owner, name, watched)
    sys.argv = ["kd", *sys.argv[4:]]
    from flows.cli import script

    script()


if __name__ == "__main__":
    main()
