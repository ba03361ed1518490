"""Every setting: its name, default, parser and meaning, in one table.

The table is read by `load` (environment variables and keywords of `init()`), and printed by `settings_table` for the
README. A bad environment variable must never stop an application: its default is used and one problem is returned for
the log. A bad keyword of `init()` is a mistake in code that is being written: `ConfigError`.

Imported by `import fasttrace`, so nothing heavy is imported here. Runs once, on the importing thread.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from fasttrace.core._api import RingShape
from fasttrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSION = "0.1.0"
PREFIX = "FASTTRACE_"
INGEST_PATH = "/api/ingest"
EXPORTERS = ("http", "file", "spool", "none")
ENCODINGS = ("zstd", "gzip", "none")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SLOTS_MIN, SLOTS_MAX, ARENA_BYTES_A_SLOT = 256, 1 << 20, 256
ARENA_BYTES_A_SLOT_WITH_CONTENT = 1024
CAPTURES = ("false", "true", "input", "output")
CONTENT_MIN_BYTES, CONTENT_MAX_BYTES = 256, 900_000
SPAN_CONTENT_BYTES = (1 << 20) - (32 << 10)  # what a span may carry, less what its other texts may need
TEXT_LIMIT = 256


class Config(NamedTuple):
    """One process's settings. Times are seconds. `collector_url` None: nobody to send to, spans go to the spool."""

    enabled: bool = True
    auto_instrument: bool = True
    service_name: str | None = None
    tenant_id: str | None = None
    environment: str | None = None
    workflow_id: str | None = None
    collector_url: str | None = None
    api_key: str | None = None
    allow_http: bool = False
    exporter: str = "http"
    file: str | None = None
    queue_max_size: int = 8192
    batch_size: int = 1000
    flush_interval: float = 1.0
    export_timeout: float = 10.0
    max_retries: int = 3
    shutdown_timeout: float = 2.0
    compression: str = "zstd"
    trust_env: bool = False
    ring_dir: str | None = None
    state_dir: str | None = None
    spool_max_bytes: int = 256 << 20
    log_level: str | None = None
    capture_content: str = "false"
    content_max_bytes: int = 65536
    openai_stream_usage: bool = False

    def __repr__(self) -> str:
        shown = self._asdict() | ({"api_key": "***"} if self.api_key else {})
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def ring_shape(self) -> RingShape:
        """The smallest ring that holds `queue_max_size` spans; its content arena grows with it, and for content.

        So does the in-flight table: half as many calls find a place there, those beyond are recorded all the same.

        A span's content may take half of the arena at most; where it is captured there is room for four of the largest.
        """
        wanted = min(max(self.queue_max_size, SLOTS_MIN), SLOTS_MAX)
        slots = _power_of_two(wanted)
        inflight = slots // 2
        captured = self.capture_input + self.capture_output
        if not captured:
            return RingShape(slots=slots, arena_bytes=slots * ARENA_BYTES_A_SLOT, inflight=inflight)
        largest = _power_of_two(4 * captured * self.content_limit)
        arena_bytes = max(slots * ARENA_BYTES_A_SLOT_WITH_CONTENT, largest)
        return RingShape(slots=slots, arena_bytes=arena_bytes, inflight=inflight)

    @property
    def capture_input(self) -> bool:
        return self.capture_content in ("true", "input")

    @property
    def capture_output(self) -> bool:
        return self.capture_content in ("true", "output")

    @property
    def content_limit(self) -> int:
        """Bytes that `input` and `output` may have each, so that both find room in one span."""
        return min(self.content_max_bytes, SPAN_CONTENT_BYTES // max(self.capture_input + self.capture_output, 1))

    @property
    def state_directory(self) -> str:
        """Where the spool lies: FASTTRACE_STATE_DIR, else the user's state directory."""
        return self.state_dir or default_state_directory(os.environ)

    @property
    def file_path(self) -> str:
        """Where FASTTRACE_EXPORTER=file writes."""
        return self.file or os.path.join(self.state_directory, "spans.jsonl")


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def default_state_directory(environ: Mapping[str, str]) -> str:
    if sys.platform == "win32":
        base = environ.get("LOCALAPPDATA") or os.path.expanduser("~")
    else:
        base = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "fasttrace")


# Parsers take the text of a variable and raise ValueError with what was expected.


def parse_switch(text: str) -> bool:
    word = text.strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("expected true or false")


def parse_capture(text: str) -> str:
    word = text.strip().lower()
    if word in ("input", "output"):
        return word
    try:
        return "true" if parse_switch(word) else "false"
    except ValueError:
        raise ValueError(f"expected one of {', '.join(CAPTURES)}") from None


def parse_text(text: str) -> str:
    text = text.strip()
    if not text.isprintable() or len(text) > TEXT_LIMIT:
        raise ValueError(f"expected at most {TEXT_LIMIT} printable characters")
    return text


def parse_header(text: str) -> str:
    """What an HTTP header can carry as it is."""
    text = text.strip()
    if not text.isascii() or not text.isprintable() or len(text) > TEXT_LIMIT:
        raise ValueError(f"expected at most {TEXT_LIMIT} printable ASCII characters")
    return text


def parse_key(text: str) -> str:
    key = text.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("expected the key alone: printable ASCII without spaces")
    return key


def parse_path(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected a path")
    return os.path.abspath(os.path.expanduser(text))


def parse_url(text: str) -> str:
    """An absolute http or https URL; one without a path gets the collector's own."""
    from urllib.parse import urlsplit

    expected = "expected a URL like https://collector.example.com"
    try:
        url = urlsplit(text.strip())
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError(expected) from None
    if url.scheme not in ("http", "https") or not host or not (text.isascii() and text.isprintable()):
        raise ValueError(expected)
    if url.username or url.password:
        raise ValueError("expected no credentials in the URL; the key belongs in FASTTRACE_API_KEY")
    path = INGEST_PATH if url.path in ("", "/") else url.path
    return url._replace(path=path, fragment="").geturl()


def choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for word in words:
            if text.strip().lower() == word.lower():
                return word
        raise ValueError(f"expected one of {', '.join(words)}")

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return number

    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ValueError(f"expected seconds from {least:g} to {most:g}")
        return number

    return parse


class Setting(NamedTuple):
    """One setting: a field of Config, keyword of `init()`, and environment variable FASTTRACE_<NAME>."""

    name: str
    parse: Callable[[str], object]
    meaning: str

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def default(self) -> object:
        return Config._field_defaults[self.name]


SETTINGS = (
    Setting("enabled", parse_switch, "`false`: nothing is recorded, every call passes straight through"),
    Setting("auto_instrument", parse_switch, "`false`: providers are patched by `fasttrace.instrument()` only"),
    Setting("service_name", parse_text, "service of every span (default: `OTEL_SERVICE_NAME`, else the script)"),
    Setting("tenant_id", parse_header, "tenant of every span, also sent as `X-Tenant-ID`"),
    Setting("environment", parse_text, "environment of every span, like `production`"),
    Setting("workflow_id", parse_text, "workflow of every span"),
    Setting("collector_url", parse_url, "where spans go (path `/api/ingest` unless given); unset: the spool only"),
    Setting("api_key", parse_key, "bearer token for the collector"),
    Setting("allow_http", parse_switch, "`true`: plain http to a collector that is not on this machine"),
    Setting("exporter", choice(*EXPORTERS), "`http`, `file` (JSON lines), `spool` (this machine only) or `none`"),
    Setting("file", parse_path, "path for `exporter=file` (default: `spans.jsonl` in the state directory)"),
    Setting("queue_max_size", whole(1, SLOTS_MAX), "spans the ring holds, rounded up to a power of two"),
    Setting("batch_size", whole(1, 100_000), "spans in a batch at most"),
    Setting("flush_interval", seconds(0.01, 3600), "seconds a span waits at most before it is sent"),
    Setting("export_timeout", seconds(0.1, 300), "seconds a request may take altogether"),
    Setting("max_retries", whole(0, 20), "attempts after the first before a batch goes to the spool"),
    Setting("shutdown_timeout", seconds(0, 300), "seconds to deliver at exit; the spool keeps the rest"),
    Setting("compression", choice(*ENCODINGS), "`zstd`, `gzip` or `none`"),
    Setting("trust_env", parse_switch, "`true`: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` are followed"),
    Setting("ring_dir", parse_path, "directory of the ring file (default: the user's shared memory)"),
    Setting("state_dir", parse_path, "directory of the spool (default: the XDG state directory)"),
    Setting("spool_max_bytes", whole(1 << 16, 1 << 50), "bytes the spool may take; the oldest spans go first"),
    Setting("log_level", choice(*LOG_LEVELS), "show the log of fasttrace on standard error from this level on"),
    Setting("capture_content", parse_capture, "`true`: what is asked and answered, too; `input` or `output`"),
    Setting(
        "content_max_bytes",
        whole(CONTENT_MIN_BYTES, CONTENT_MAX_BYTES),
        "bytes of JSON that `input` and `output` may have each; what is longer is cut and says so",
    ),
    Setting(
        "openai_stream_usage",
        parse_switch,
        "`true`: streamed chat completions are asked for their usage, which changes what is sent",
    ),
)
# Read elsewhere: before there is a configuration, or by the part they belong to.
OTHER_VARIABLES = {
    "FASTTRACE_PURE": "`1`: the pure Python core; `0`: the native core or an ImportError",
}
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def load(environ: Mapping[str, str], overrides: Mapping[str, object]) -> tuple[Config, list[str]]:
    """The configuration of `environ` with `overrides` on top, and what was wrong with the environment.

    Raises ConfigError for an override that is unknown or not usable. An override of None means the default.
    """
    problems = _unknown_variables(environ)
    values: dict[str, object] = {}
    for setting in SETTINGS:
        text = environ.get(setting.variable, "")
        if not text or setting.name in overrides:
            continue
        try:
            values[setting.name] = setting.parse(text)
        except ValueError as error:
            problems.append(_problem(setting, text, error))
    for name, value in overrides.items():
        values[name] = _override(name, value)
    return _refuse_plain_http(Config(**values), overrides, problems), problems  # type: ignore[arg-type]


def _override(name: str, value: object) -> object:
    setting = _BY_NAME.get(name)
    if setting is None:
        raise ConfigError(name, "***", f"no such setting{_suggestion(name, _BY_NAME)}")
    if value is None:
        return setting.default
    if not isinstance(value, (str, int, float, os.PathLike)):
        raise ConfigError(name, _shown(setting, value), f"expected text or a number, not {type(value).__name__}")
    try:
        return setting.parse(os.fsdecode(value) if isinstance(value, os.PathLike) else str(value))
    except ValueError as error:
        raise ConfigError(name, _shown(setting, value), str(error)) from None


def _refuse_plain_http(config: Config, overrides: Mapping[str, object], problems: list[str]) -> Config:
    """Spans and the key go in clear text to this machine only, unless that is asked for."""
    url = config.collector_url
    if url is None or config.allow_http or not url.startswith("http://") or _is_loopback(url):
        return config
    why = "expected https, or FASTTRACE_ALLOW_HTTP=true to send spans and key in clear text"
    if "collector_url" in overrides:
        raise ConfigError("collector_url", without_secrets(url), why)
    problems.append(f"FASTTRACE_COLLECTOR_URL={without_secrets(url)!r}: {why}; using the spool only")
    return config._replace(collector_url=None)


def _is_loopback(url: str) -> bool:
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _problem(setting: Setting, text: str, error: ValueError) -> str:
    fallback = "unset" if setting.default is None else _shown_default(setting)
    return f"{setting.variable}={_shown(setting, text)!r}: {error}; using the default, {fallback}"


def _shown(setting: Setting, value: object) -> object:
    """A value that was refused, fit for a message: it may be a secret in the wrong place."""
    if setting.name == "api_key":
        return "***"
    if isinstance(value, (bool, int, float)):
        return value
    return without_secrets(str(value)) if isinstance(value, (str, os.PathLike)) else f"<{type(value).__name__}>"


def without_secrets(text: str) -> str:
    """`text` without the user, password and query of a URL, and without what looks like a key."""
    from fasttrace.core._text import redact

    before, at, rest = text.rpartition("@")
    if at:
        scheme, slashes, _ = before.partition("//")
        text = f"{scheme}//***@{rest}" if slashes else f"***@{rest}"
    address, mark, _ = text.partition("?")
    return redact(f"{address}?***" if mark else text)


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = {setting.variable for setting in SETTINGS} | OTHER_VARIABLES.keys()
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [f"{name}: no such setting{_suggestion(name, known)}; it is ignored" for name in unknown]


def _suggestion(name: str, known: Mapping[str, object] | set[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f", did you mean {close[0]}?" if close else ""


def _shown_default(setting: Setting) -> str:
    default = setting.default
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def settings_table() -> str:
    """The settings as a Markdown table, one line each, for the README."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for setting in SETTINGS:
        default = "" if setting.default is None else f"`{_shown_default(setting)}` "
        rows.append(f"| `{setting.variable}` | {default}| {setting.meaning} |")
    rows += [f"| `{variable}` | | {meaning} |" for variable, meaning in OTHER_VARIABLES.items()]
    return "\n".join(rows) + "\n"
