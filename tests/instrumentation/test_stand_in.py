"""What stands for a provider method looks and behaves like it, under and over other tools, on and off; both cores."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import sys
import types
import weakref
from types import SimpleNamespace
from typing import Any

import calls
import pytest
from calls import Client, caller, documented, full_reply, resource_class, run, spec

from fasttrace.core._api import Endpoint

# ---- others around us ----


@pytest.mark.parametrize("is_async", [False, True])
def test_a_wrapt_wrapper_below_ours_learns_its_instance(recording: Any, is_async: bool) -> None:
    """Other tools patch with wrapt, and may have come first."""
    wrapt = pytest.importorskip("wrapt")
    seen: list[Any] = []

    def plain(self: Any, **kwargs: Any) -> str:
        return kwargs["model"]

    async def coroutine(self: Any, **kwargs: Any) -> str:
        return kwargs["model"]

    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(instance._client)
        return wrapped(*args, **kwargs)

    wrapper = wrapt.FunctionWrapper(coroutine if is_async else plain, theirs)
    resource = resource_class(recording, wrapper, is_async=is_async)
    instance = resource()
    reply = instance.create(model="m")
    assert (run(reply) if is_async else reply) == "m"
    recording.recorder.active = False
    reply = instance.create(model="m")
    assert (run(reply) if is_async else reply) == "m"
    recording.recorder.active = True
    assert seen == [instance._client] * 2
    assert len(recording.spans()) == 1


def test_a_wrapt_wrapper_above_ours_works(recording: Any) -> None:
    wrapt = pytest.importorskip("wrapt")
    resource = resource_class(recording, documented)
    seen: list[Any] = []

    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(instance)
        return wrapped(*args, **kwargs)

    resource.create = wrapt.FunctionWrapper(resource.__dict__["create"], theirs)
    instance = resource()
    assert instance.create(model="m") == "m"
    assert seen == [instance]
    assert len(recording.spans()) == 1


# ---- indistinguishable from the original ----


def test_it_looks_like_the_original(recording: Any) -> None:
    stand_in = recording.core.method(documented, spec(), recording.recorder)
    assert stand_in.__wrapped__ is documented
    assert inspect.signature(stand_in) == inspect.signature(documented)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(stand_in, name) == getattr(documented, name)
    assert inspect.isfunction(stand_in)
    assert isinstance(stand_in, types.FunctionType)
    assert inspect.getsource(stand_in) == inspect.getsource(documented)
    assert not inspect.iscoroutinefunction(stand_in)
    assert callable(stand_in)


def test_bound_it_is_a_method(recording: Any) -> None:
    resource = resource_class(recording, documented)()
    assert inspect.ismethod(resource.create)
    assert resource.create.__self__ is resource
    assert resource.create == resource.create
    assert resource.create(model="m") == "m"
    assert type(resource).create(resource, model="n") == "n"
    assert len(recording.spans()) == 2


def test_it_is_pickled_and_copied_as_functions_are(recording: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = recording.core.method(documented, spec(), recording.recorder)
    monkeypatch.setattr(calls, "documented", stand_in)
    assert sys.modules[stand_in.__module__] is calls
    assert pickle.loads(pickle.dumps(stand_in)) is stand_in
    assert copy.copy(stand_in) is stand_in
    assert copy.deepcopy(stand_in) is stand_in


def test_it_can_be_weakly_referenced_and_collected(recording: Any) -> None:
    stand_in = recording.core.method(documented, spec(), recording.recorder)
    assert weakref.ref(stand_in)() is stand_in


# ---- on and off ----


def test_switched_off_it_is_a_plain_call(recording: Any) -> None:
    resource = resource_class(recording, documented)
    kept = resource().create
    recording.core.switch(resource.__dict__["create"], False)
    assert kept(model="m") == "m"
    assert recording.spans() == []
    recording.core.switch(resource.__dict__["create"], True)
    assert kept(model="m") == "m"
    assert len(recording.spans()) == 1


def test_an_inactive_recorder_makes_plain_calls(recording: Any) -> None:
    create = caller(recording, documented)
    recording.recorder.active = False
    assert create(model="m") == "m"
    recording.recorder.active = True
    assert recording.spans() == []


def test_only_a_method_of_this_core_can_be_switched(core: Any) -> None:
    with pytest.raises(TypeError, match="not a recording method"):
        core.switch(documented, False)


def test_without_a_ring_calls_go_on_and_are_counted(recording: Any) -> None:
    create = caller(recording, documented)
    recorder = recording.core.Recorder(lambda: None)
    recorder.active = True
    stand_in = recording.core.method(documented, spec(), recorder)
    assert stand_in(object(), model="m") == "m"
    assert recorder.dropped_unstarted == 1
    assert create(model="m") == "m"


def test_a_start_that_raises_never_reaches_the_caller(
    core: Any, unraisable: list[Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttrace.core._report._next_time", 0.0)

    def start() -> None:
        raise OSError("no memory")

    recorder = core.Recorder(start)
    recorder.active = True
    assert core.method(documented, spec(), recorder)(object(), model="m") == "m"
    assert recorder.dropped_unstarted == 1
    assert "no memory" in caplog.text
    assert unraisable == []


def test_an_exception_of_the_applications_own_goes_on_from_the_start(core: Any) -> None:
    """A worker's time limit or a SIGTERM handler's SystemExit may arrive while the first span opens the ring."""

    class TimeLimitExceeded(BaseException): ...

    def start() -> None:
        raise TimeLimitExceeded

    recorder = core.Recorder(start)
    recorder.active = True
    with pytest.raises(TimeLimitExceeded):
        core.method(documented, spec(), recorder)(object(), model="m")
    with pytest.raises(TimeLimitExceeded):
        recorder.record(core.new_context(None), 0, 0, {"kind": "task"})


def test_clients_that_come_and_go_keep_their_own_endpoints(recording: Any) -> None:
    hosts = [f"https://h{n}.example.com" for n in range(100)]
    asked: list[str] = []

    def by_host(base_url: Any, client: object) -> Endpoint:
        asked.append(base_url.url)
        return Endpoint("example", base_url.url.removeprefix("https://"), None)

    resource = resource_class(recording, documented, resolve=by_host)
    for _ in range(2):
        for host in hosts:
            resource(Client(SimpleNamespace(url=host))).create(model="m")
    spans = recording.spans()
    assert [span["server_address"] for span in spans] == 2 * [host.removeprefix("https://") for host in hosts]


def test_a_client_is_not_kept_alive(recording: Any) -> None:
    resource = resource_class(recording, documented)
    client = Client()
    resource(client).create(model="m")
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


def test_references_are_balanced(recording: Any) -> None:
    """A leak of one reference a call would show a hundredfold."""
    reply = full_reply()

    def failing(self: Any, **kwargs: Any) -> None:
        raise ValueError("x")

    async def coroutine(self: Any, **kwargs: Any) -> Any:
        return reply

    model = "model-of-this-test"
    client = Client()
    plain, fails = resource_class(recording, lambda self, **kwargs: reply), resource_class(recording, failing)
    waits = resource_class(recording, coroutine, is_async=True)

    def calls() -> None:
        plain(client).create(model=model, temperature=0.123456789)
        with pytest.raises(ValueError):
            fails(client).create(model=model)
        with pytest.raises(StopIteration):
            waits(client).create(model=model).send(None)

    watched = (reply, reply.usage, reply.choices, model, client, client._base_url)
    calls()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(100):
        calls()
    gc.collect()
    after = [sys.getrefcount(thing) for thing in watched]
    assert all(abs(a - b) < 10 for a, b in zip(after, before, strict=True)), (before, after)
