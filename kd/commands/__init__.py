"""The commands of `kd`. Each module defines one command as a function `command`.

`COMMANDS` in kd/main.py lists the modules. A module is imported only when its command runs, so all its imports are at
the top of the module. The only exception is `run.py`. Its docstring gives the reason.
"""
