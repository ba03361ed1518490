"""Keeps the exit code of a process that Ctrl-C ends.

An interpreter that an unhandled KeyboardInterrupt ends kills itself by SIGINT at last, so that a shell knows. It keeps
that in mind until the next `eval` or `exec` of a text, and a module that is imported on the way out (a namedtuple, a
dataclass) is full of them. The exporter's imports may come as late as that. So `is_ending` finds out beforehand, from
the traceback, and `is_ending_again` says it once more: by an `eval` that an interrupt ends, which is the only way.
Runs on the main thread, at exit.
"""

from __future__ import annotations

import sys


def is_ending() -> bool:
    """Whether the process ends because its script, or module, was interrupted. A shell's or a debugger's last error is
    another thing: what was interrupted there was called by it."""
    error = getattr(sys, "last_value", None)
    if type(error) is not KeyboardInterrupt or error.__traceback__ is None or sys.flags.interactive:
        return False
    outermost = error.__traceback__.tb_frame
    code, main = outermost.f_code, sys.modules.get("__main__")
    is_typed = code.co_filename.startswith("<") and code.co_filename != "<string>"
    is_script = code.co_name == "<module>" and outermost.f_globals is getattr(main, "__dict__", None) and not is_typed
    return is_script or code.co_name == "_run_module_as_main"


def is_ending_again() -> None:
    try:
        eval("interrupt()", {"interrupt": _interrupt})
    except KeyboardInterrupt:
        return


def _interrupt() -> None:
    raise KeyboardInterrupt
