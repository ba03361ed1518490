"""The `fasttrace` command: one file per sub-command, loaded only when it is called for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import fasttrace

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.command is None:
        parser().print_help()
        return 0
    from . import demo

    return demo.run(arguments)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="fasttrace", description="LLM observability: every provider call becomes one exact span."
    )
    version = f"fasttrace {fasttrace.__version__} ({fasttrace.backend()} core)"
    top.add_argument("--version", action="version", version=version)
    commands = top.add_subparsers(dest="command", title="commands", metavar="")
    demo = commands.add_parser("demo", help="watch real OpenAI SDK calls become spans at a collector")
    demo.description = (
        "The official OpenAI SDK calls a loopback provider; fasttrace sends the spans to a loopback collector; "
        "the table shows what arrived. No network, no key."
    )
    demo.add_argument("--live", action="store_true", help="three small calls to the real API with your OPENAI_API_KEY")
    demo.add_argument("--model", default="gpt-4o-mini", help="chat model for --live (default: %(default)s)")
    demo.add_argument("--json", action="store_true", help="print the spans as they arrived, one a line, and no table")
    demo.add_argument("--no-overhead", action="store_true", help="leave out the measurement of added cost")
    return top
