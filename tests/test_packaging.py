"""Distributions: what the sdist holds, what the wheels are called, what happens without a compiler, and the release.

All of it needs the checkout, and most of it builds from a copy of it, so it runs once and not against a wheel.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import fasttrace

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
LEFT_OUT = shutil.ignore_patterns(
    ".venv*", ".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "*.so", "_native.c", "core.*"
)
PYTHONS = ("cp310", "cp311", "cp312", "cp313", "cp313t", "cp314", "cp314t")
MACHINES = {
    "linux": ("manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"),
    "macos": ("macosx_x86_64", "macosx_arm64"),
    "windows": ("win_amd64",),
}


def build(what: str, source: Path, out: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`what` is sdist or wheel, made by the build backend in `source`."""
    inherited = {n: v for n, v in os.environ.items() if n not in ("FASTTRACE_PURE", "CIBUILDWHEEL")}
    code = f"from setuptools import build_meta; build_meta.build_{what}({str(out)!r})"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=source, env={**inherited, **env}, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, room / "tree", ignore=LEFT_OUT)
    done = build("sdist", room / "tree", room, FASTTRACE_PURE="1")
    assert done.returncode == 0, done.stderr
    (archive,) = room.glob("*.tar.gz")
    return archive


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
    (source,) = (tmp_path / "unpacked").iterdir()
    return source


def sources(folder: str, *suffixes: str) -> set[str]:
    paths = (path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes and path.is_file())
    found = {path.relative_to(ROOT).as_posix() for path in paths}
    return {name for name in found if "/build/" not in name and not name.endswith("core/_native.c")}


def test_sdist_holds_all_that_a_build_and_its_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = sources("csrc", ".c", ".h", ".inc", ".md") | sources(
        "src", ".py", ".pyx", ".pxd", ".pyi", ".json", ".typed"
    )
    wanted |= sources("tests", ".py") | sources("examples", ".py")
    wanted |= {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"}
    assert wanted - names == set()
    assert [name for name in names if name.endswith((".so", ".pyc", "core/_native.c"))] == []


def test_pure_wheel_runs_anywhere_and_holds_python_only(unpacked: Path, tmp_path: Path) -> None:
    done = build("wheel", unpacked, tmp_path, FASTTRACE_PURE="1")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"fasttrace-{fasttrace.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {name.removeprefix("src/") for name in sources("src", ".py", ".pyi", ".json", ".typed")}
    assert wanted - names == set()
    assert [name for name in names if name.endswith((".so", ".pyd", ".c", ".h", ".pyx", ".pxd"))] == []
    assert f"fasttrace-{fasttrace.__version__}.dist-info/licenses/LICENSE" in names


def test_without_a_compiler_the_build_goes_on_pure_and_says_so(unpacked: Path, tmp_path: Path) -> None:
    done = build("wheel", unpacked, tmp_path, CC="/bin/false")
    assert done.returncode == 0, done.stderr
    assert "fasttrace: going on with the pure Python core" in done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    env = {n: v for n, v in os.environ.items() if n != "FASTTRACE_PURE"} | {"PYTHONPATH": str(tmp_path / "installed")}
    code = "import fasttrace; print(fasttrace.backend(), fasttrace.__file__)"
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"pure {tmp_path}")


@pytest.mark.parametrize("demand", [{"CIBUILDWHEEL": "1"}, {"FASTTRACE_PURE": "0"}], ids=["CIBUILDWHEEL", "PURE=0"])
def test_without_a_compiler_a_required_core_fails_the_build(
    unpacked: Path, tmp_path: Path, demand: dict[str, str]
) -> None:
    done = build("wheel", unpacked, tmp_path, CC="/bin/false", **demand)
    assert done.returncode != 0
    assert "going on with the pure Python core" not in done.stderr
    assert list(tmp_path.glob("*.whl")) == []


def test_an_unknown_sanitizer_is_refused(unpacked: Path, tmp_path: Path) -> None:
    done = build("wheel", unpacked, tmp_path, FASTTRACE_SANITIZE="adress")
    assert done.returncode != 0
    assert "FASTTRACE_SANITIZE=adress: say address or thread" in done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="cibuildwheel needs Python 3.11")
@pytest.mark.parametrize("platform", MACHINES)
def test_wheels_are_built_for_every_promised_target(platform: str) -> None:
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform, "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {f"{python}-{machine}" for python in PYTHONS for machine in MACHINES[platform]}


def test_setup_py_stays_small() -> None:
    assert len((ROOT / "setup.py").read_text(encoding="utf-8").splitlines()) <= 70


def test_one_version() -> None:
    assert re.findall(r'^version = "(.*)"', PYPROJECT, re.MULTILINE) == [fasttrace.__version__]


def test_both_wheel_gates_copy_the_same_test_sources() -> None:
    (configured,) = re.findall(r"^test-sources = \[(.*)\]", PYPROJECT, re.MULTILINE)
    (scripted,) = re.findall(r"^test_sources=\((.*)\)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert re.findall(r'"(.*?)"', configured) == scripted.split()


# ---- workflows

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_pinned_and_start_without_permissions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [action for action in used if not re.search(r"@[0-9a-f]{40}$", action)] == []
    assert re.search(r"^permissions: \{\}$", text, re.MULTILINE)
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
    assert "pull_request_target" not in text


def test_only_the_publishing_job_may_ask_for_a_token() -> None:
    tokens = {path.name: path.read_text(encoding="utf-8").count("id-token: write") for path in WORKFLOWS}
    assert tokens == {"bench.yml": 0, "ci.yml": 0, "wheels.yml": 1}
