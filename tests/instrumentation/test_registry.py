"""Patching and undoing, before and after a module is imported."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fasttrace.instrumentation.registry import WATCH, Instrumentation, Patch

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
class Base:
    def inherited(self): return "inherited"

class Resource(Base):
    def create(self): return "original"

    @staticmethod
    def plain(): return "plain"
"""


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The name of a module that nobody has imported yet."""
    name = f"sdk_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)
    assert WATCH not in sys.meta_path


def replaced(original: Any) -> Any:
    def stand_in(*args: Any) -> str:
        return f"traced {original(*args)}"

    return stand_in


def test_a_module_imported_later_is_patched_when_it_comes(sdk: str) -> None:
    instrumentation = Instrumentation(sdk, lambda: [Patch(sdk, "Resource.create", replaced)])
    instrumentation.apply()
    assert sdk not in sys.modules
    assert WATCH in sys.meta_path
    module = importlib.import_module(sdk)
    assert module.Resource().create() == "traced original"
    assert WATCH not in sys.meta_path
    instrumentation.undo()


def test_a_module_imported_before_is_patched_at_once(sdk: str) -> None:
    module = importlib.import_module(sdk)
    instrumentation = Instrumentation(sdk, lambda: [Patch(sdk, "Resource.create", replaced)])
    instrumentation.apply()
    assert module.Resource().create() == "traced original"
    instrumentation.undo()


def test_undoing_puts_back_the_very_object_everywhere(sdk: str) -> None:
    module = importlib.import_module(sdk)
    before = {cls: dict(vars(cls)) for cls in (module.Base, module.Resource)}
    instrumentation = Instrumentation(
        sdk, lambda: [Patch(sdk, "Resource.create", replaced), Patch(sdk, "Resource.inherited", replaced)]
    )
    instrumentation.apply()
    instrumentation.apply()
    assert module.Resource().inherited() == "traced inherited"
    assert module.Base().inherited() == "inherited"
    instrumentation.undo()
    instrumentation.undo()
    for cls, attributes in before.items():
        assert dict(vars(cls)).keys() == attributes.keys()
        assert all(vars(cls)[name] is value for name, value in attributes.items())


def test_a_patch_that_comes_back_is_the_same_object(sdk: str) -> None:
    module = importlib.import_module(sdk)
    switched: list[bool] = []
    patch = Patch(sdk, "Resource.create", replaced, switch=lambda method, is_on: switched.append(is_on))
    instrumentation = Instrumentation(sdk, lambda: [patch])
    instrumentation.apply()
    first = module.Resource.create
    instrumentation.undo()
    instrumentation.apply()
    assert module.Resource.create is first
    instrumentation.undo()
    assert switched == [True, False, True, False]


def test_what_others_put_over_ours_stays(sdk: str) -> None:
    module = importlib.import_module(sdk)
    instrumentation = Instrumentation(sdk, lambda: [Patch(sdk, "Resource.create", replaced)])
    instrumentation.apply()
    ours = module.Resource.create
    module.Resource.create = lambda self: f"theirs {ours(self)}"
    instrumentation.undo()
    assert module.Resource().create() == "theirs traced original"


def test_the_import_system_sees_the_loader_as_it_was(sdk: str) -> None:
    instrumentation = Instrumentation(sdk, lambda: [Patch(sdk, "Resource.create", replaced)])
    instrumentation.apply()
    module = importlib.import_module(sdk)
    assert "exec_module" not in vars(module.__loader__)
    assert module.__spec__.loader is module.__loader__
    assert importlib.reload(module).Resource().create() == "original"
    instrumentation.undo()


def test_a_missing_method_leaves_the_others_patched(
    sdk: str, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr("fasttrace.core._report._next_time", 0.0)
    instrumentation = Instrumentation(
        sdk,
        lambda: [
            Patch(sdk, "Resource.gone", replaced, is_optional=True),
            Patch(sdk, "Resource.missing", replaced),
            Patch(sdk, "Resource.create", replaced),
        ],
    )
    instrumentation.apply()
    assert importlib.import_module(sdk).Resource().create() == "traced original"
    assert "missing" in caplog.text
    assert "gone" not in caplog.text
    instrumentation.undo()


def test_undone_before_the_import_nothing_is_patched(sdk: str) -> None:
    instrumentation = Instrumentation(sdk, lambda: [Patch(sdk, "Resource.create", replaced)])
    instrumentation.apply()
    instrumentation.undo()
    assert WATCH not in sys.meta_path
    assert importlib.import_module(sdk).Resource().create() == "original"


def test_a_module_that_fails_to_import_fails_as_without_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sdk_broken.py").write_text("raise ImportError('broken on purpose')")
    monkeypatch.syspath_prepend(str(tmp_path))
    instrumentation = Instrumentation("sdk_broken", lambda: [Patch("sdk_broken", "Resource.create", replaced)])
    instrumentation.apply()
    for _ in range(2):
        with pytest.raises(ImportError, match="broken on purpose"):
            importlib.import_module("sdk_broken")
    (tmp_path / "sdk_broken.py").write_text(SOURCE + "\n# mended")
    importlib.invalidate_caches()
    assert importlib.import_module("sdk_broken").Resource().create() == "traced original"
    instrumentation.undo()
    sys.modules.pop("sdk_broken")


def test_a_module_that_does_not_exist_is_waited_for_in_silence() -> None:
    instrumentation = Instrumentation("no_such_sdk", lambda: [Patch("no_such_sdk", "Resource.create", replaced)])
    instrumentation.apply()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_sdk")
    instrumentation.undo()


def test_threads_that_import_at_once_patch_once(sdk: str) -> None:
    made: list[Any] = []

    def replace(original: Any) -> Any:
        made.append(original)
        return replaced(original)

    instrumentation = Instrumentation(sdk, lambda: [Patch(sdk, "Resource.create", replace)])
    instrumentation.apply()
    ready = threading.Barrier(8)

    def load() -> None:
        ready.wait(10)
        importlib.import_module(sdk)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1
    assert sys.modules[sdk].Resource().create() == "traced original"
    instrumentation.undo()
