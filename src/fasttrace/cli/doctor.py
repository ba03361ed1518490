"""`fasttrace doctor`: whether tracing works here, a line a check, and what to do where it does not.

It looks as the application would: the same settings, the same ring, the same request. Whatever is slow has a deadline,
about ten seconds for all. Exit code 1 where a check failed, else 0.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, TextIO

from fasttrace import config
from fasttrace.cli import check_collector, check_places, check_process, check_rings, terminal
from fasttrace.cli.check import guarded
from fasttrace.cli.check_sdks import SDKS, Questions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fasttrace.cli.check import Check
    from fasttrace.cli.check_sdks import Sdk
    from fasttrace.config import Config

NAME_WIDTH, INDENT = 17, 24


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    loaded, problems = config.load(os.environ, {})
    if arguments.state_dir:
        loaded = loaded._replace(state_dir=os.path.abspath(os.path.expanduser(arguments.state_dir)))
    found = []
    for check in checks(loaded, problems, () if arguments.no_sdks else SDKS):
        found.append(check)
        if not arguments.json:
            show(check, sys.stdout)
    counts = Counter(check.status for check in found)
    if arguments.json:
        print(json.dumps(report(found), indent=1))
    else:
        warnings, failures = terminal.count(counts["warn"], "warning"), terminal.count(counts["fail"], "failure")
        print(f"{counts['ok']} ok, {warnings}, {failures}")
    return 1 if counts["fail"] else 0


def checks(loaded: Config, problems: Sequence[str], sdks: Sequence[Sdk]) -> Iterator[Check]:
    """Every check, in the order in which they are shown."""
    with Questions(sdks) as questions:
        groups: dict[str, Callable[[], Iterable[Check]]] = {
            "package": check_process.package,
            "core": check_process.the_core,
            "settings": partial(check_process.settings, loaded, problems),
            "packages": partial(check_process.packages, loaded.compression),
            "clock": check_process.clock,
            "thread": check_process.thread,
            "ring": partial(check_rings.ring, loaded),
            "rings": partial(check_rings.other_rings, loaded),
            "state directory": partial(check_places.state_directory, loaded),
            "spool": partial(check_places.spool, loaded),
            "file": partial(check_places.file, loaded),
            "counters": partial(check_rings.counters, loaded),
            "collector": partial(check_collector.collector, loaded),
            "sdk": partial(questions.checks, loaded),
        }
        for name, group in groups.items():
            yield from guarded(name, group)


def show(check: Check, to: TextIO) -> None:
    """A check within the width, its advice under it."""
    first = f"{check.status:<5} {check.name:<{NAME_WIDTH}} "
    for line in terminal.wrapped(first, terminal.plain(check.found), INDENT):
        coloured = line.startswith(check.status)
        shown = terminal.coloured(check.status, line[:4]) + line[4:] if coloured else line
        print(shown, file=to)
    if check.advice and check.status != "ok":
        for line in terminal.wrapped(f"{'':<{INDENT - 3}}->", terminal.plain(check.advice), INDENT):
            print(line, file=to)


def report(found: Sequence[Check]) -> dict[str, object]:
    """The same for machines."""
    return {
        "fasttrace": config.VERSION,
        "ok": all(check.status != "fail" for check in found),
        "checks": [_without_none(check._asdict()) for check in found],
    }


def _without_none(members: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}
