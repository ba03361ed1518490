"""The documents say what is true: settings, commands, names, links and the quick start are checked or run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fasttrace
from environment import inherited
from fasttrace import config
from fasttrace.cli.loopback import KEY, Collector, Provider

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def between(text: str, marker: str) -> str:
    """What stands between <!-- marker --> and <!-- /marker -->."""
    (found,) = re.findall(f"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", text, re.DOTALL)
    return str(found)


def quick_start() -> str:
    (code,) = re.findall(r"## Quick start\n.*?```python\n(.*?)```", README, re.DOTALL)
    return str(code)


def test_settings_table_is_the_configuration() -> None:
    assert between(README, "settings").strip() == config.settings_table().strip()


def test_quick_start_is_short() -> None:
    assert len(quick_start().splitlines()) <= 15


def test_quick_start_runs_and_its_spans_arrive(tmp_path: Path) -> None:
    with Provider() as provider, Collector() as collector:
        settings = {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": provider.base_url,
            "FASTTRACE_COLLECTOR_URL": collector.url,
            "FASTTRACE_STATE_DIR": str(tmp_path),
        }
        done = subprocess.run(
            [sys.executable, "-c", quick_start()],
            env={**inherited("FASTTRACE_PURE"), **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        spans = {span["name"]: span for span in collector.spans}
    assert len(spans) == len(provider.requests) + 1
    assert spans["chat gpt-4o-mini"]["parent_span_id"] == spans["answer"]["span_id"]


def test_every_public_name_is_documented() -> None:
    undocumented = [name for name in fasttrace.__all__ if f"fasttrace.{name}" not in README and name not in README]
    assert undocumented == []
    callables = [getattr(fasttrace, name) for name in fasttrace.__all__ if callable(getattr(fasttrace, name))]
    assert [item.__name__ for item in callables if not item.__doc__] == []


def test_changelog_names_the_version() -> None:
    assert f"## [{fasttrace.__version__}]" in CHANGELOG


def command_help(*command: str) -> str:
    arguments = [sys.executable, "-m", "fasttrace", *command, "--help"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize(
    "command",
    [("demo",), ("doctor",), *(("spool", action) for action in ("list", "show", "drain", "export", "purge"))],
    ids=" ".join,
)
def test_commands_and_their_options_are_documented(command: tuple[str, ...]) -> None:
    options = set(re.findall(r"--[a-z-]+", command_help(*command))) - {"--help"}
    assert options
    assert [option for option in options if option not in README] == []
    assert f"fasttrace {' '.join(command)}" in README
    assert command[-1] in command_help(*command[:-1])


@pytest.mark.packaging
@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "csrc/README.md"])
def test_links_to_files_lead_somewhere(document: str) -> None:
    path = ROOT / document
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.packaging
@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_commands_exist(text: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = set(re.findall(r"^([a-z_]+)\(\) ", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^ *)make ([a-z-]+)", text, re.MULTILINE))
    assert named
    assert named - targets == set()
    assert set(re.findall(r"\.ci/run ([a-z_]+)", text)) - steps == set()


@pytest.mark.packaging
def test_the_figures_shown_are_those_that_are_gated() -> None:
    budgets = (ROOT / "benchmarks" / "budgets.toml").read_text(encoding="utf-8")
    gated = re.findall(r'^\["(.+)"\]$', budgets, re.MULTILINE)
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in between(README, "figures").splitlines()
        if row.startswith("|")
    ][2:]
    shown = {row[0]: row[1:] for row in rows if len(row) == 3}
    assert list(shown) == gated
    assert all(re.match(r"\d", native) for native, _ in shown.values())
