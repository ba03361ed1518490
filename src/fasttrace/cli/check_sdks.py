"""What `fasttrace doctor` asks of the provider SDKs: which are installed, and whether their calls are recorded.

Each installed SDK is imported and patched in a process of its own, all of them at once: an import takes seconds and may
fail, and neither is to hold or end the doctor. `python -m fasttrace.cli.check_sdks NAME` is that process; it prints
which of the methods it could replace. Other instrumentations are told by their packages' names; nothing of them runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttrace.cli.check import Check, ok, warn
from fasttrace.cli.terminal import count, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fasttrace.config import Config

LIMIT_S = 9.0
MODULE = "fasttrace.cli.check_sdks"


class Sdk(NamedTuple):
    """A supported SDK: its name here, its distribution, the major (for 0.x: minor) releases that are tested."""

    name: str
    distribution: str
    tested: str
    first: tuple[int, int]
    before: tuple[int, int]


SDKS = (
    Sdk("openai", "openai", "1.x to 3.x", (1, 0), (4, 0)),
    Sdk("anthropic", "anthropic", "0.30 to 2.x", (0, 30), (3, 0)),
    Sdk("google_genai", "google-genai", "1.x to 3.x", (1, 0), (4, 0)),
    Sdk("google_generativeai", "google-generativeai", "0.8", (0, 8), (0, 9)),
)
OTHERS = (
    *("agentops", "arize-phoenix", "braintrust", "ddtrace", "helicone", "langfuse", "langsmith", "logfire", "lunary"),
    *("mlflow", "openinference-instrumentation-anthropic", "openinference-instrumentation-openai", "openlit"),
    *("opentelemetry-instrumentation-anthropic", "opentelemetry-instrumentation-google-generativeai"),
    *("opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-openai-v2", "sentry-sdk"),
    *("traceloop-sdk", "weave"),
)


class Questions:
    """The processes that look at the installed SDKs; started at once, asked at the end. Ends them all."""

    def __init__(self, sdks: Sequence[Sdk] = SDKS) -> None:
        self._until_s = time.monotonic() + LIMIT_S
        self.versions = {sdk.name: version_of(sdk.distribution) for sdk in sdks}
        self._running = {name: _ask(name) for name, version in self.versions.items() if version}

    def __enter__(self) -> Questions:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            process.communicate()

    def checks(self, config: Config) -> Iterator[Check]:
        for sdk in SDKS:
            version = self.versions.get(sdk.name)
            if version:
                yield self._check(sdk, version, config)
        if self.versions and not self._running:
            yield ok("sdk", "none of the supported SDKs is installed")
        present = [f"{name} {version}" for name in OTHERS if (version := version_of(name))]
        if present:
            yield ok("others", f"also installed, and possibly recording the same calls: {', '.join(present)}")

    def _check(self, sdk: Sdk, version: str, config: Config) -> Check:
        label = f"{sdk.distribution} {version}"
        answer = self._answer(sdk.name)
        advice = f"pip install '{sdk.distribution}', a release of {sdk.tested}"
        if isinstance(answer, str):
            found = f"{label}: whether its calls are recorded is not known: {answer}"
            return warn("sdk", found, f"see what `{os.path.basename(sys.executable)} -m {MODULE} {sdk.name}` says")
        if answer["missing"]:
            return warn("sdk", f"{label}: not recorded: {', '.join(answer['missing'])}", advice)
        if not is_tested(sdk, version):
            return warn("sdk", f"{label} is outside the tested releases, {sdk.tested}", advice)
        if not (config.enabled and config.auto_instrument):
            how = "FASTTRACE_ENABLED=false" if not config.enabled else "FASTTRACE_AUTO_INSTRUMENT=false"
            return ok("sdk", f"{label} can be recorded, by `fasttrace.instrument()`: {how}")
        return ok("sdk", f"{label}: {count(answer['patched'], 'method')} recorded")

    def _answer(self, name: str) -> dict[str, Any] | str:
        process = self._running[name]
        try:
            out, err = process.communicate(timeout=max(self._until_s - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            return f"importing it took more than {LIMIT_S:g} s"
        try:
            answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        except (ValueError, IndexError):
            return plain((err.strip().splitlines() or ["its import said nothing"])[-1], 200)
        return answer


def _ask(name: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONSAFEPATH": "1", "FASTTRACE_AUTO_INSTRUMENT": "false", "FASTTRACE_LOG_LEVEL": ""}
    command = [sys.executable, "-W", "ignore", "-m", MODULE, name]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environ, text=True, errors="replace", **streams)


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def is_tested(sdk: Sdk, version: str) -> bool:
    numbers = [int(part) if part.isdigit() else 0 for part in (version.split(".") + ["0"])[:2]]
    return sdk.first <= (numbers[0], numbers[1]) < sdk.before


def patched(name: str) -> dict[str, Any]:
    """In the process of its own: how many of an SDK's methods are replaced, and which should be and are not.

    Not missing are those that this release of the SDK does not have, or that need no replacement in it.
    """
    import fasttrace
    from fasttrace import instrumentation

    import_module(instrumentation.PACKAGES.get(name, name))
    table = instrumentation.SDKS[name]()
    before = [_found(patch.module, patch.path) for patch in table]
    fasttrace.instrument(name)
    after = [_found(patch.module, patch.path) for patch in table]
    missing = [
        f"{patch.module}.{patch.path}"
        for patch, old, new in zip(table, before, after, strict=True)
        if new is old and not (patch.is_optional if old is None else patch.replace(old) is old)
    ]
    return {"patched": sum(new is not old for old, new in zip(before, after, strict=True)), "missing": missing}


def _found(module: str, path: str) -> Any:
    """What is at a path of a module; None where nothing is."""
    try:
        found: Any = import_module(module)
        for name in path.split("."):
            members = vars(found)
            found = members[name] if name in members else getattr(found, name)
    except (ImportError, AttributeError):
        return None
    return found


if __name__ == "__main__":
    print(json.dumps(patched(sys.argv[1])))
