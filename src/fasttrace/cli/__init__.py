"""The `fasttrace` command: one file per sub-command, loaded only when it is called for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import fasttrace

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parser().parse_args(argv)
    from . import terminal

    terminal.prepare_output()
    try:
        code = _run(arguments)
        terminal.flush_output()
    except BrokenPipeError:
        terminal.leave_quietly()
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command is None:
        parser().print_help()
        return 0
    if arguments.command == "doctor":
        from . import doctor

        return doctor.run(arguments)
    if arguments.command == "spool":
        from . import spool

        return spool.run(arguments)
    from . import demo

    return demo.run(arguments)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="fasttrace", description="LLM observability: every provider call becomes one exact span."
    )
    version = f"fasttrace {fasttrace.__version__} ({fasttrace.backend()} core)"
    top.add_argument("--version", action="version", version=version)
    commands = top.add_subparsers(dest="command", title="commands", metavar="")
    _add_doctor(commands)
    _add_spool(commands)
    _add_demo(commands)
    return top


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser("demo", help="watch real OpenAI SDK calls become spans at a collector")
    demo.description = (
        "The official OpenAI SDK calls a loopback provider; fasttrace sends the spans to a loopback collector; "
        "the table shows what arrived. No network, no key."
    )
    demo.add_argument("--live", action="store_true", help="three small calls to the real API with your OPENAI_API_KEY")
    demo.add_argument("--model", default="gpt-4o-mini", help="chat model for --live (default: %(default)s)")
    demo.add_argument("--json", action="store_true", help="print the spans as they arrived, one a line, and no table")
    demo.add_argument("--no-overhead", action="store_true", help="leave out the measurement of added cost")


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser("doctor", help="whether tracing works here, and what to do where it does not")
    doctor.description = (
        "Looks at the core, the settings, the ring, the spool, the collector, the clock and the SDKs, as a process "
        "with this environment would. Exit code 1 where something fails, 0 otherwise."
    )
    doctor.add_argument("--json", action="store_true", help="print the checks as one JSON object")
    doctor.add_argument("--no-sdks", action="store_true", help="leave out the SDKs, whose import takes seconds")
    _add_state_dir(doctor)


def _add_state_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument("--state-dir", metavar="DIR", help="state directory (default: FASTTRACE_STATE_DIR)")


def _add_spool(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    spool = commands.add_parser("spool", help="what waits on disk: list, show, drain, export, purge")
    spool.description = "The spans that could not be delivered yet, in the spool of the state directory."
    actions = spool.add_subparsers(dest="action", title="commands", metavar="", required=True)

    _add_state_dir(actions.add_parser("list", help="segments, oldest first, and what was set aside"))

    show = actions.add_parser("show", help="the spans that wait, as a table or as JSON lines")
    _add_state_dir(show)
    show.add_argument("--limit", type=int, metavar="N", help="the newest N only (default: 100; all with --json)")
    show.add_argument("--json", action="store_true", help="print the spans as they are, one a line, and no table")
    show.add_argument("--follow", action="store_true", help="go on with what arrives, until Ctrl-C")
    show.add_argument("--model", help="only spans of this model; a pattern like 'gpt-4*' too")
    show.add_argument("--status", help="only spans of this status, like error or aborted")
    show.add_argument("--service", help="only spans of this service; a pattern too")

    drain = actions.add_parser("drain", help="adopt what dead processes left, and send everything to the collector")
    _add_state_dir(drain)

    export = actions.add_parser("export", help="copy the spans that wait into a file of JSON lines")
    _add_state_dir(export)
    export.add_argument("--output", required=True, metavar="FILE", help="where to; - is standard output")
    export.add_argument("--from-rings", action="store_true", help="also what is in the rings of dead processes")
    export.add_argument("--force", action="store_true", help="replace a file that is there")

    purge = actions.add_parser("purge", help="remove what waits, for good")
    _add_state_dir(purge)
    purge.add_argument("--corrupt", action="store_true", help="only damaged segments")
    purge.add_argument("--rejected", action="store_true", help="only spans that the collector rejected")
    purge.add_argument("--yes", action="store_true", help="do not ask")
