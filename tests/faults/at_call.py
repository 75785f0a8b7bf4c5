"""Run `kd` and a shell command at a given call: python at_call.py MODULE:NAME[.NAME] COUNT SHELL-COMMAND WORDS...

The shell command runs right before the COUNTth call of the function; in it, $PPID is the process of `kd`. If the shell
command fails, the call raises.
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
    original, remaining, command = getattr(owner, name), [int(sys.argv[2])], sys.argv[3]

    def watched(*words: Any, **named: Any) -> Any:
        remaining[0] -= 1
        if not remaining[0]:
            subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return original(*words, **named)

    setattr(owner, name, watched)
    sys.argv = ["kd", *sys.argv[4:]]
    from kd.main import script

    script()


if __name__ == "__main__":
    main()
