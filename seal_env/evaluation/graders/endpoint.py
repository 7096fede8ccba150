"""Requests to a chat model behind an OpenAI-compatible endpoint, with retries, a cache on disk and refusals.

class Colour(Endpoint[str]):
    what, wanted, about, unclear = "painter", "colour", "pictures", "no clear colour"
    system, version, reply_tokens = SYSTEM, 1, 8
    refusals, test_prompt = ("skip", "error"), messages("a plain square")

    def read(self, reply):
        return reply if reply in COLOURS else None

    def is_value(self, kept):
        return kept in COLOURS

The key is read from the environment for each batch of requests. It is sent in the header of the requests and nowhere else.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import os
import random
import re
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import httpx2

from seal_env.chat import without_thoughts
from seal_env.checks import check_at_least, check_choice, check_count
from seal_env.evaluation.graders.judge_prompt import Messages, clean

LONGEST_WAIT = 60.0  # seconds between two attempts; if an endpoint asks for more, the prompt has no value in this call
_WHY = 220  # characters of an endpoint's message in errors and logs
_REASONS = 5  # different ones in a line of the log
_AGAIN = (408, 409, 425, 429)  # and 5xx
_KEY_REFUSED = (401, 403)
_PROMPT_REFUSED = (400, 413, 422)  # where the endpoint takes another prompt; where it takes none, a setting is wrong
_BUSY = re.compile(
    r"rate.?limit|too many|overloaded|over capacity|time.?out|timed out|unavailable|server.?error|try again", re.I
)
# Changes to a request, since endpoints differ in what they accept, and the words in an endpoint's message that ask for each.
_COMPLETION_TOKENS = "max_completion_tokens in place of max_tokens"
_NO_TEMPERATURE = "no temperature"
_NO_SYSTEM = "the instruction in the user's message"
_CHANGES = {
    _COMPLETION_TOKENS: "max_completion_tokens",
    _NO_TEMPERATURE: "temperature",
    _NO_SYSTEM: "system|developer instruction|roles must alternate",
}
_Form = frozenset[str]  # of a request: those of _CHANGES that are made
_ABOUT_KEY = re.compile(r"api.?key|unauthori[sz]ed|authenticat|permission", re.I)

_log = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Refusal:
    """The endpoint refuses this prompt for good, though it answers others.

    Attributes:
        why: the endpoint's message.
    """

    why: str


@dataclass(frozen=True)
class _Failed:
    """A failed attempt that can be repeated.

    Attributes:
        why: a short reason.
        after: seconds to wait, from ``Retry-After``.
        answered: whether the model replied, though the reply cannot be read.
    """

    why: str
    after: float = 0.0
    answered: bool = False


@dataclass(frozen=True)
class _Denied:
    """The endpoint refuses every prompt, for example because of the key."""

    why: str


@dataclass(eq=False, repr=False)
class Endpoint(ABC, Generic[Value]):
    """Sends prompts to a model, many at a time, and reads values from its replies. Subclasses define prompts and values.

    Values are cached on disk under a hash of the rule's version, the model, the endpoint and the prompt. Temporary failures
    (timeouts, dropped connections, 408, 409, 425, 429, 5xx, a reply that cannot be read) are retried with exponential backoff,
    not before ``Retry-After``. A prompt without a value after that gets None, which is not cached: the same call asks for it
    again.

    A prompt that the endpoint refuses for good (400, 413, 422, a content filter, the model's refusal) is sent once, and
    ``on_refused`` decides its value; refusals are cached, too. If :attr:`test_prompt` is refused as well, a setting is wrong,
    and the endpoint's message becomes an error. If that message asks for another form of request, all later requests have it,
    and the log says so: ``max_completion_tokens`` in place of ``max_tokens``, no temperature, or no system message.

    Thoughts before a reply are removed (:func:`seal_env.chat.without_thoughts`), and so are thoughts in a separate field; a
    model that thinks needs more ``reply_tokens``.

    Args:
        model: the endpoint's name of it.
        base_url: of the endpoint, up to ``/v1``. Plain http is allowed for this machine and its network only.
        api_key_env: environment variable with the key. Without a key, only local endpoints can be used.
        cache: folder of the values, shared by any number of processes; ``auto`` is ``~/.cache/seal-env/judge`` (or under
            ``XDG_CACHE_HOME``), None keeps it in memory only.
        concurrency: most requests at a time.
        attempts: most requests per prompt and call.
        timeout: seconds without data that end an attempt.
        backoff: seconds of the first wait, which then doubles (up to a half less, at random).
        price_in: of a million prompt tokens, for ``cost``.
        price_out: of a million completion tokens.
        reply_tokens: most tokens of a reply, thoughts included; the default is enough for a reply without thoughts.
        extra_body: further JSON fields of the request's body; they may replace ``temperature`` and ``max_tokens``, and None
            leaves out a field. Values with different fields are cached separately.
        on_refused: what to do with a prompt that is refused for good: one of :attr:`refusals`, the first by default. With
            ``error`` cached refusals are ignored.

    Attributes:
        requests: number of requests so far, with failed ones.
        cache_hits: number of values from the cache.
        tokens_in: prompt tokens, as the endpoint reports them.
        tokens_out: completion tokens.

    Raises:
        ValueError: an option that cannot work; when asked, no key, a request that the endpoint refuses for good whatever the
            prompt (such as 401 or 404), a prompt that it refuses (with ``on_refused="error"``), or a cache that cannot be
            written.
    """

    what: ClassVar[str]  # its name in errors
    wanted: ClassVar[str]  # the values in logs: "verdict"
    about: ClassVar[str]  # the subjects of prompts in logs: "answers"
    unclear: ClassVar[str]  # the reason in logs for a reply that cannot be read
    system: ClassVar[str]  # the instruction at the beginning of all prompts
    version: ClassVar[int]  # of the rule; increase it when replies are read in another way
    refusals: ClassVar[tuple[str, ...]]  # choices of on_refused, with "error"; the first is the default
    test_prompt: ClassVar[Messages]  # short and harmless, with the form of all others

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    cache: str | Path | None = "auto"
    concurrency: int = 16
    attempts: int = 6
    timeout: float = 60.0
    backoff: float = 1.0
    price_in: float | None = None
    price_out: float | None = None
    reply_tokens: int | None = None  # a subclass sets its default
    extra_body: Mapping[str, Any] | None = None
    on_refused: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ValueError(f"model must be a name that the endpoint knows, got {self.model!r}")
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):  # not repeated: it may be the key itself
            raise ValueError("api_key_env must be the name of an environment variable, in capitals, such as OPENAI_API_KEY")
        self._local = _is_local(_checked_url(self.base_url))
        self.base_url = self.base_url.rstrip("/")
        check_count("concurrency", self.concurrency)
        check_count("attempts", self.attempts)
        check_at_least("backoff", self.backoff, 0)
        if self.timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout!r}")
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError(f"price_in and price_out go together, got {self.price_in!r} and {self.price_out!r}")
        if self.reply_tokens is None:
            self.reply_tokens = type(self).reply_tokens
        check_count("reply_tokens", self.reply_tokens)
        self._extra_body = _checked_body(self.extra_body)
        self.on_refused = self.refusals[0] if self.on_refused is None else self.on_refused
        check_choice("on_refused", self.on_refused, self.refusals)
        self.requests = self.cache_hits = self.tokens_in = self.tokens_out = 0
        self._counting = threading.Lock()
        self._jitter = random.Random()
        self._testing = threading.Lock()
        self._accepted: _Form | None = None  # in which the endpoint took the test prompt
        name = re.sub(r"[^\w.-]+", "-", self.model)[:80]
        folder = default_cache() if self.cache == "auto" else None if self.cache is None else Path(self.cache).expanduser()
        self._known = _Kept[Value](folder and folder / f"{name}-{self._hash(self.system)[:12]}.jsonl", self.is_value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self.base_url!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Endpoint[Value]:
        return self  # gym.make copies its keywords; the copy is to share connections, cache and counts

    @abstractmethod
    def read(self, reply: str) -> Value | None:
        """The value in a reply; None if it is not clear."""

    @abstractmethod
    def is_value(self, kept: Any) -> bool:
        """Whether ``kept``, from a line of JSON, is a possible value of :meth:`read`."""

    @property
    def cost(self) -> float | None:
        """The cost of the tokens so far, in the currency of the prices; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return (self.tokens_in * self.price_in + self.tokens_out * self.price_out) / 1e6

    def ask(self, prompts: Sequence[Messages]) -> list[Value | Refusal | None]:
        """The value or refusal of each prompt, or None if all attempts failed; equal prompts are sent once."""
        keys = [self._hash(prompt) for prompt in prompts]
        self._known.read()
        unknown = {key: prompt for key, prompt in zip(keys, prompts) if self._is_unknown(self._known.get(key))}
        self.cache_hits += sum(key not in unknown for key in keys)
        if unknown:
            self._ask_all(unknown)
        return [self._known.get(key) for key in keys]

    def _is_unknown(self, known: Value | Refusal | None) -> bool:
        return known is None or (isinstance(known, Refusal) and self.on_refused == "error")

    def _hash(self, prompt: Messages | str) -> str:
        extra = [json.dumps(self._extra_body, sort_keys=True)] if self._extra_body else []
        return hashlib.sha256(json.dumps([self.version, self.model, self.base_url, prompt, *extra]).encode()).hexdigest()

    def _at(self) -> str:
        return f"{self.what} {self.model!r} at {self.base_url}"

    def _client(self) -> httpx2.Client:
        if not _key(self.api_key_env) and not self._local:
            raise ValueError(f"{self._at()}: no API key; set the environment variable {self.api_key_env}")
        if not re.fullmatch(r"[!-~]*", _key(self.api_key_env)):
            raise ValueError(f"{self._at()}: the key in {self.api_key_env} has characters other than visible ASCII")
        return httpx2.Client(
            headers={"Authorization": f"Bearer {_key(self.api_key_env)}"} if _key(self.api_key_env) else {},
            timeout=self.timeout,
            limits=httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
            trust_env=not self._local,  # a proxy does not lead to this machine
        )

    def _ask_all(self, prompts: Mapping[str, Messages]) -> None:
        """Send all prompts, and cache each value as it arrives."""
        self._known.check_writable()
        missing, refused = Counter[str](), Counter[str]()
        stop = threading.Event()
        with self._client() as client:
            pool = ThreadPoolExecutor(min(self.concurrency, len(prompts)), self.what)
            try:
                futures = {pool.submit(self._ask, client, prompt, stop): key for key, prompt in prompts.items()}
                for future in as_completed(futures):
                    result = future.result()
                    if isinstance(result, _Failed):
                        missing[result.why] += 1
                    else:
                        if isinstance(result, Refusal):
                            refused[result.why] += 1
                        self._known.add(futures[future], result)
            finally:  # an error does not wait for the others
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        for what, reasons in ((f"no {self.wanted} on", missing), (f"on_refused={self.on_refused!r} holds for", refused)):
            if reasons:
                counts = f"{reasons.total()} of {len(prompts)} {self.about}"
                listed = ", ".join(f"{why} ({count})" for why, count in reasons.most_common(_REASONS))
                _log.warning("%s: %s %s: %s", self._at(), what, counts, listed)

    def _ask(self, client: httpx2.Client, prompt: Messages, stop: threading.Event) -> Value | Refusal | _Failed:
        """A value, a refusal, or how the last attempt failed."""
        result: Value | Refusal | _Failed = _Failed("not asked")
        for attempt in range(self.attempts):
            if stop.is_set():
                break
            try:
                result = self._attempt(client, prompt, stop)
                if isinstance(result, Refusal) and self.on_refused == "error":
                    others = " or ".join(map(repr, (name for name in self.refusals if name != "error")))
                    raise ValueError(
                        self._error(f"{result.why} (one prompt is refused: on_refused={others} goes on without it)")
                    )
            except ValueError:
                stop.set()
                raise
            if not isinstance(result, _Failed) or attempt + 1 == self.attempts or result.after > LONGEST_WAIT:
                break
            wait = min(self.backoff * 2**attempt, LONGEST_WAIT) * self._jitter.uniform(0.5, 1)
            if stop.wait(result.after + wait):  # with jitter, since Retry-After gives many prompts the same time
                break
        return result

    def _attempt(self, client: httpx2.Client, prompt: Messages, stop: threading.Event) -> Value | Refusal | _Failed:
        form = self._accepted or _Form()
        result = self._request(client, prompt, form)
        if isinstance(result, Refusal):
            accepted = self._accepted_form(client, stop)
            if isinstance(accepted, _Failed):
                return accepted
            if accepted != form:
                result = self._request(client, prompt, accepted)
        return Refusal(result.why[:_WHY]) if isinstance(result, Refusal) else result

    def _accepted_form(self, client: httpx2.Client, stop: threading.Event) -> _Form | _Failed:
        """The form in which the endpoint accepts the test prompt, determined once.

        It does not depend on other prompts.

        Raises:
            ValueError: the endpoint refuses the test prompt in every form.
        """
        with self._testing:
            if self._accepted is None:
                if stop.is_set():
                    return _Failed("not asked")
                form = _Form()
                try:
                    while isinstance(result := self._request(client, self.test_prompt, form), Refusal):
                        why = result.why.lower()
                        change = next((c for c, words in _CHANGES.items() if c not in form and re.search(words, why)), None)
                        if change is None:
                            raise ValueError(self._error(result.why[:_WHY]))
                        form |= {change}
                except ValueError:
                    stop.set()  # before the next thread gets here
                    raise
                if isinstance(result, _Failed) and not result.answered:
                    return result
                if form:
                    changes = ", ".join(change for change in _CHANGES if change in form)
                    _log.warning("%s: requests have the form that the endpoint asks for: %s", self._at(), changes)
                self._accepted = form
            return self._accepted

    def _request(self, client: httpx2.Client, prompt: Messages, form: _Form) -> Value | Refusal | _Failed:
        """One request with one prompt.

        Raises:
            ValueError: the endpoint refuses every prompt.
        """
        with self._counting:
            self.requests += 1
        try:
            response = client.post(f"{self.base_url}/chat/completions", json=self._body(prompt, form))
        except httpx2.RequestError as error:
            return _Failed(type(error).__name__)
        result = self._result(response)
        if isinstance(result, _Denied):  # raised here, where no variable holds the response, which may repeat the key
            raise ValueError(self._error(result.why))
        return result

    def _result(self, response: httpx2.Response) -> Value | Refusal | _Failed | _Denied:
        reply = _object(response)
        choice = _first(reply.get("choices"))
        status, error = response.status_code, reply.get("error") or choice.get("error")
        if response.is_success and error:  # some gateways report errors so
            status = _status_of(error)
        message = f"HTTP {response.status_code}, {self._words(error or reply) or response.reason_phrase}"
        if status in _AGAIN or status >= 500:
            why = message[:_WHY] if response.is_success else f"HTTP {status}"
            return _Failed(why, _retry_after(response.headers.get("Retry-After", "")))
        if status in _PROMPT_REFUSED:
            return Refusal(message)
        if not 200 <= status < 300:
            # The endpoint's message about the key is left out, since it may repeat some of it.
            return _Denied(f"HTTP {response.status_code}, the key was refused" if status in _KEY_REFUSED else message[:_WHY])
        self._count(reply)
        return self._read_choice(choice)

    def _body(self, prompt: Messages, form: _Form) -> dict[str, Any]:
        if _NO_SYSTEM in form:
            prompt = [{"role": "user", "content": "\n\n".join(message["content"] for message in prompt)}]
        body: dict[str, Any] = {"model": self.model, "messages": prompt}
        if _NO_TEMPERATURE not in form:
            body["temperature"] = 0
        if "max_completion_tokens" not in self._extra_body:
            body["max_completion_tokens" if _COMPLETION_TOKENS in form else "max_tokens"] = self.reply_tokens
        return {name: value for name, value in {**body, **self._extra_body}.items() if value is not None}

    def _read_choice(self, choice: Mapping[str, Any]) -> Value | Refusal | _Failed:
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        if choice.get("finish_reason") == "content_filter":
            return Refusal("finish_reason content_filter")
        text = _text(message.get("content"))
        if not text and message.get("refusal"):
            return Refusal(f"the model refuses: {self._words(message['refusal'])}")
        value = self.read(without_thoughts(text))
        if value is not None:
            return value
        cut_off = choice.get("finish_reason") == "length"
        return _Failed("cut off while thinking: raise reply_tokens" if cut_off else self.unclear, answered=bool(choice))

    def _count(self, reply: Mapping[str, Any]) -> None:
        usage = reply.get("usage")
        if isinstance(usage, dict):
            read, written = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
            with self._counting:
                self.tokens_in += read if isinstance(read, int) else 0
                self.tokens_out += written if isinstance(written, int) else 0

    def _words(self, error: Any) -> str:
        """The message of an error, on one line and without the key."""
        if isinstance(error, dict):
            error = next((error[name] for name in ("message", "detail", "msg", "code") if error.get(name)), "")
        return clean(str(error or "").replace(_key(self.api_key_env) or "\0", "***"))

    def _error(self, why: str) -> str:
        return f"{self._at()}: {why}; the key is taken from {self.api_key_env}"


def default_cache() -> Path:
    """The folder of cached values."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seal-env" / "judge"


def _key(variable: str) -> str:
    """Never in a variable of a function that may raise: some show those with a traceback."""
    return os.environ.get(variable, "").strip()


class _Kept(Generic[Value]):
    """Values by key, in memory and, with a path, as JSON lines on disk.

    Several processes may append at once: a line is one write at the end of the file. It begins with a line break, so that an
    incomplete line of another process spoils only itself. The first value of a key stays; a value replaces a refusal.
    """

    def __init__(self, path: Path | None, is_value: Callable[[Any], bool]) -> None:
        self.path = path
        self._is_value = is_value
        self._known: dict[str, Value | Refusal] = {}
        self._offset = 0  # bytes of the file that were read

    def get(self, key: str) -> Value | Refusal | None:
        return self._known.get(key)

    def read(self) -> None:
        """Read what was added to the file, up to its last complete line."""
        if self.path is None:
            return
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:  # replaced by a shorter one
                    self._offset = 0
                file.seek(self._offset)
                complete, line_break, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise ValueError(self._trouble(error)) from error
        self._offset += len(complete) + len(line_break)
        for line in complete.splitlines():
            try:
                record = json.loads(line)
                key, why = record["key"], record.get("refused")
                value = Refusal(why) if isinstance(why, str) else record["verdict"]
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
            if isinstance(key, str) and (isinstance(value, Refusal) or self._is_value(value)):
                self._keep(key, value)

    def check_writable(self) -> None:
        """Raise a ValueError if the file cannot be written, before any request costs money."""
        self._write(b"")

    def add(self, key: str, value: Value | Refusal) -> None:
        self._keep(key, value)
        kept = {"refused": value.why} if isinstance(value, Refusal) else {"verdict": value}
        self._write(f"\n{json.dumps({'key': key, **kept})}\n".encode())

    def _keep(self, key: str, value: Value | Refusal) -> None:
        if not isinstance(value, Refusal) and isinstance(self._known.get(key), Refusal):
            self._known[key] = value
        self._known.setdefault(key, value)

    def _write(self, line: bytes) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.path.open("ab", buffering=0) as file:
                file.write(line)
        except OSError as error:
            raise ValueError(self._trouble(error)) from error

    def _trouble(self, error: OSError) -> str:
        folder = str(self.path and self.path.parent)
        return f"cache {folder!r} cannot be used ({error.strerror}); give another folder, or None to keep nothing on disk"


def _checked_url(base_url: str) -> httpx2.URL:
    """The address, checked; errors do not repeat it, since it may contain a password."""
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, TypeError):
        raise ValueError("base_url must be an address such as https://api.openai.com/v1") from None
    if (
        url.scheme not in ("http", "https")
        or not re.fullmatch(r"[\w.:-]+", url.host)
        or url.userinfo
        or url.query
        or url.fragment
    ):
        raise ValueError("base_url must be an address such as https://api.openai.com/v1, without user, query or fragment")
    if url.scheme == "http" and not _is_local(url):
        raise ValueError(f"base_url: http would send the key to {url.host} unencrypted; use https")
    return url


def _is_local(url: httpx2.URL) -> bool:
    """Whether the host is this machine or one in its network."""
    try:
        return ipaddress.ip_address(url.host).is_private
    except ValueError:
        return "." not in url.host or url.host.endswith((".localhost", ".local", ".internal"))


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 for anything else."""
    try:
        return max(
            0.0, float(value) if re.fullmatch(r"[\d.]+", value) else parsedate_to_datetime(value).timestamp() - time.time()
        )
    except (ValueError, OverflowError):
        return 0.0


def _checked_body(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy, checked; errors do not repeat values, which may be secret."""
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise ValueError(f"extra_body must be a dictionary of fields of the request's body, got a {type(extra).__name__}")
    if taken := sorted({"model", "messages", "stream"} & extra.keys()):
        raise ValueError(f"extra_body cannot set {', '.join(taken)}: the request depends on it")
    try:
        copy = json.loads(json.dumps(dict(extra), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"extra_body must be JSON: {error}") from None
    if copy != extra:  # JSON would make strings of other keys, and lists of tuples
        raise ValueError("extra_body must be JSON as it is: names are strings, and values strings, numbers, lists, ... or None")
    return copy


def _object(response: httpx2.Response) -> dict[str, Any]:
    """The response as a JSON object, or the first object of a list; else empty."""
    try:
        reply = response.json()
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else _first(reply)


def _first(listed: Any) -> dict[str, Any]:
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}


def _text(content: Any) -> str:
    """The text of a message: a string, or the text among parts of several types."""
    if isinstance(content, list):
        parts = (part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text"))
        return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _status_of(error: Any) -> int:
    """The HTTP status for an error inside a response of status 200."""
    fields = error if isinstance(error, dict) else {"message": error}
    for name in ("code", "status"):
        value = str(fields.get(name))
        if re.fullmatch(r"[45]\d\d", value):
            return int(value)
    # A message may repeat the prompt, which is untrusted: it counts only if there is nothing else.
    named = " ".join(str(fields[name]) for name in ("code", "status", "type") if fields.get(name))
    if _ABOUT_KEY.search(named):
        return 401
    return 429 if _BUSY.search(named or str(fields.get("message"))) else 400
