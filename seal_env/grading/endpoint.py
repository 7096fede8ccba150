"""A chat model behind an OpenAI-compatible endpoint, asked the same kind of thing many times.

class Colour(Endpoint[str]):
    what, wanted, about, unclear = "painter", "colour", "pictures", "no clear colour"
    system, version, reply_tokens = SYSTEM, 1, 8

    def read(self, reply):
        return reply if reply in COLOURS else None

    def is_value(self, kept):
        return kept in COLOURS

The key is read from the environment whenever the endpoint is asked, goes into the header of the request and nowhere else.
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

from seal_env.checks import check_at_least, check_count
from seal_env.grading.prompt import Messages, clean

LONGEST_WAIT = 60.0  # seconds between two attempts; an endpoint that asks for more is left alone until the next call
_AGAIN = (408, 409, 425, 429)  # and 5xx
_KEY_REFUSED = (401, 403)

_log = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Failed:
    """An attempt that came to nothing but may do better later.

    Attributes:
        why: in a word or two.
        after: seconds that the endpoint wants to be left alone.
    """

    why: str
    after: float = 0.0


class Endpoint(ABC, Generic[Value]):
    """Puts prompts to a model, many at a time, and reads its replies. Subclasses say what is asked and how a reply is read.

    What was read is kept on disk under a hash of all that it depends on: version of the rule, model, endpoint and prompt. What
    fails in passing (timeouts, dropped connections, 408, 409, 425, 429, 5xx, a reply that cannot be read) is tried again after
    growing waits, as late as ``Retry-After`` says. What still has no value gets None and is not kept: the same call asks for it
    alone again. The model must reply at once, without thinking aloud.

    Args:
        model: by the endpoint's name for it.
        base_url: of the endpoint, up to ``/v1``. Plain http is for this machine and its own network.
        api_key_env: environment variable that holds the key. Without one only local endpoints are asked.
        cache: folder of what was read, shared by any number of processes; ``auto`` is ``~/.cache/seal-env/judge`` (or under
            ``XDG_CACHE_HOME``), None keeps it in memory only.
        concurrency: most requests at a time.
        attempts: requests with one prompt before it is given up.
        timeout: seconds without a sign of life that end an attempt.
        backoff: seconds of the first wait, which then doubles (up to a half less, at random).
        price_in: of a million tokens read, for ``cost``.
        price_out: of a million tokens written.

    Attributes:
        requests: made so far, failed ones included.
        cache_hits: values that were known already.
        tokens_in: read by the model, by its own account.
        tokens_out: written by it.

    Raises:
        ValueError: an option that cannot work; when asked, no key, a request that the endpoint refuses for good (such as 401
            or 404), or a cache that cannot be written.
    """

    what: ClassVar[str]  # it is called in errors
    wanted: ClassVar[str]  # of the model
    about: ClassVar[str]  # what the prompts are about
    unclear: ClassVar[str]  # said of a reply that cannot be read
    system: ClassVar[str]  # the instruction that all prompts begin with
    version: ClassVar[int]  # of the rule: counts up when replies are read in another way
    reply_tokens: ClassVar[int]

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str = "OPENAI_API_KEY",
        cache: str | Path | None = "auto",
        concurrency: int = 16,
        attempts: int = 6,
        timeout: float = 60.0,
        backoff: float = 1.0,
        price_in: float | None = None,
        price_out: float | None = None,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise ValueError(f"model must be a name that the endpoint knows, got {model!r}")
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", api_key_env):  # not repeated: it may be the key itself
            raise ValueError("api_key_env must be the name of an environment variable, in capitals, such as OPENAI_API_KEY")
        self._local = _is_local(_checked_url(base_url))
        check_count("concurrency", concurrency)
        check_count("attempts", attempts)
        check_at_least("backoff", backoff, 0)
        if timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout!r}")
        if (price_in is None) != (price_out is None):
            raise ValueError(f"price_in and price_out go together, got {price_in!r} and {price_out!r}")
        self.model = model
        self.base_url = base_url.rstrip("/")
        self.api_key_env = api_key_env
        self.concurrency = concurrency
        self.attempts = attempts
        self.timeout = timeout
        self.backoff = backoff
        self.price_in = price_in
        self.price_out = price_out
        self.requests = self.cache_hits = self.tokens_in = self.tokens_out = 0
        self._counting = threading.Lock()
        self._jitter = random.Random()
        name = re.sub(r"[^\w.-]+", "-", model)[:80]
        folder = default_cache() if cache == "auto" else Path(cache).expanduser() if cache is not None else None
        self._known = _Kept[Value](folder and folder / f"{name}-{self._hash(self.system)[:12]}.jsonl", self.is_value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self.base_url!r})"

    @abstractmethod
    def read(self, reply: str) -> Value | None:
        """What the model said; None: that is not clear."""

    @abstractmethod
    def is_value(self, kept: Any) -> bool:
        """Whether ``kept``, from a line of JSON, is what :meth:`read` may have given."""

    @property
    def cost(self) -> float | None:
        """Of the tokens so far, in the currency of the prices; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return (self.tokens_in * self.price_in + self.tokens_out * self.price_out) / 1e6

    def ask(self, prompts: Sequence[Messages]) -> list[Value | None]:
        """What the model says to each prompt; equal ones are put to it once."""
        keys = [self._hash(prompt) for prompt in prompts]
        self._known.read()
        unknown = {key: prompt for key, prompt in zip(keys, prompts) if self._known.get(key) is None}
        self.cache_hits += sum(key not in unknown for key in keys)
        if unknown:
            self._ask_all(unknown)
        return [self._known.get(key) for key in keys]

    def _hash(self, shown: Messages | str) -> str:
        return hashlib.sha256(json.dumps([self.version, self.model, self.base_url, shown]).encode()).hexdigest()

    def _check_key(self) -> None:
        if not _key(self.api_key_env) and not self._local:
            raise ValueError(f"{self._at()}: no API key; set the environment variable {self.api_key_env}")
        if not re.fullmatch(r"[!-~]*", _key(self.api_key_env)):
            raise ValueError(f"{self._at()}: the key in {self.api_key_env} has characters other than visible ASCII")

    def _at(self) -> str:
        return f"{self.what} {self.model!r} at {self.base_url}"

    def _client(self) -> httpx2.Client:
        self._check_key()
        return httpx2.Client(
            headers={"Authorization": f"Bearer {_key(self.api_key_env)}"} if _key(self.api_key_env) else {},
            timeout=self.timeout,
            limits=httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
            trust_env=not self._local,  # a proxy does not lead to this machine
        )

    def _ask_all(self, prompts: Mapping[str, Messages]) -> None:
        """Ask for the value of every key, and keep each as it comes."""
        self._known.check_writable()
        missing: Counter[str] = Counter()
        stop = threading.Event()
        with self._client() as client:
            pool = ThreadPoolExecutor(min(self.concurrency, len(prompts)), self.what)
            try:
                futures = {pool.submit(self._ask, client, prompt, stop): key for key, prompt in prompts.items()}
                for future in as_completed(futures):
                    found = future.result()
                    if isinstance(found, _Failed):
                        missing[found.why] += 1
                    else:
                        self._known.add(futures[future], found)
            finally:  # an error does not wait for the others
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        if missing:
            reasons = ", ".join(f"{why} ({count})" for why, count in missing.most_common())
            counts = f"{missing.total()} of {len(prompts)} {self.about}"
            _log.warning("%s: no %s on %s: %s", self._at(), self.wanted, counts, reasons)

    def _ask(self, client: httpx2.Client, prompt: Messages, stop: threading.Event) -> Value | _Failed:
        """A value, or how the last attempt failed."""
        found: Value | _Failed = _Failed("not asked")
        for attempt in range(self.attempts):
            if stop.is_set():
                break
            try:
                found = self._attempt(client, prompt)
            except ValueError:
                stop.set()
                raise
            if not isinstance(found, _Failed) or attempt + 1 == self.attempts or found.after > LONGEST_WAIT:
                break
            wait = min(self.backoff * 2**attempt, LONGEST_WAIT) * self._jitter.uniform(0.5, 1)
            if stop.wait(found.after + wait):  # spread, where many are told to come back at one time
                break
        return found

    def _attempt(self, client: httpx2.Client, prompt: Messages) -> Value | _Failed:
        with self._counting:
            self.requests += 1
        body = {"model": self.model, "messages": prompt, "temperature": 0, "max_tokens": self.reply_tokens}
        try:
            response = client.post(f"{self.base_url}/chat/completions", json=body)
        except httpx2.RequestError as error:
            return _Failed(type(error).__name__)
        status = response.status_code
        if status in _AGAIN or status >= 500:
            return _Failed(f"HTTP {status}", _retry_after(response.headers.get("Retry-After", "")))
        if not response.is_success:
            raise ValueError(self._refusal(response))
        reply = _json(response)
        self._count(reply)
        try:
            value = self.read(reply["choices"][0]["message"]["content"])
        except (LookupError, TypeError):
            value = None
        return _Failed(self.unclear) if value is None else value

    def _count(self, reply: Any) -> None:
        usage = reply.get("usage") if isinstance(reply, dict) else None
        if isinstance(usage, dict):
            read, written = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
            with self._counting:
                self.tokens_in += read if isinstance(read, int) else 0
                self.tokens_out += written if isinstance(written, int) else 0

    def _refusal(self, response: httpx2.Response) -> str:
        """In one line. What the endpoint says of the key is left out: it may repeat some of it."""
        status = f"HTTP {response.status_code}"
        if response.status_code in _KEY_REFUSED:
            told = "the key was refused"
        else:
            reply = _json(response)
            error = reply.get("error", reply) if isinstance(reply, dict) else None
            said = error.get("message") if isinstance(error, dict) else error
            told = str(said or response.reason_phrase).replace(_key(self.api_key_env) or "\0", "***")
            told = clean(told)[:200]
        return f"{self._at()}: {status}, {told}; the key is taken from {self.api_key_env}"


def default_cache() -> Path:
    """The folder that what models said is kept in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seal-env" / "judge"


def _key(variable: str) -> str:
    """Never in a variable of a function that may raise: some show those with a traceback."""
    return os.environ.get(variable, "").strip()


class _Kept(Generic[Value]):
    """Values by key: in memory and, given a path, a JSON line each on disk.

    Several processes may add at once: a line is one write at the end of the file. It begins with a line break too, so that one
    that another process could not finish spoils only itself. The first value of a key stands.
    """

    def __init__(self, path: Path | None, is_value: Callable[[Any], bool]) -> None:
        self.path = path
        self._is_value = is_value
        self._known: dict[str, Value] = {}
        self._offset = 0  # of what was read of the file

    def get(self, key: str) -> Value | None:
        return self._known.get(key)

    def read(self) -> None:
        """Take in what was added to the file, up to its last whole line."""
        if self.path is None:
            return
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:  # replaced by a shorter one
                    self._offset = 0
                file.seek(self._offset)
                whole, line_break, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise ValueError(self._trouble(error)) from error
        self._offset += len(whole) + len(line_break)
        for line in whole.splitlines():
            try:
                record = json.loads(line)
                key, value = record["key"], record["verdict"]
            except (ValueError, LookupError, TypeError):
                continue
            if isinstance(key, str) and self._is_value(value):
                self._known.setdefault(key, value)

    def check_writable(self) -> None:
        """Raise a ValueError if values could not be kept, before any is paid for."""
        self._write(b"")

    def add(self, key: str, value: Value) -> None:
        self._known.setdefault(key, value)
        self._write(f"\n{json.dumps({'key': key, 'verdict': value})}\n".encode())

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
    """What is wrong with an address is said without repeating it: there may be a password in it."""
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
        raise ValueError(f"base_url: http would send the key to {url.host} for all to read; use https")
    return url


def _is_local(url: httpx2.URL) -> bool:
    """Whether it is this machine or one of its own network."""
    try:
        return ipaddress.ip_address(url.host).is_private
    except ValueError:
        return "." not in url.host or url.host.endswith((".localhost", ".local", ".internal"))


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, whether it says so or gives a date; 0 for anything else."""
    try:
        return max(
            0.0, float(value) if re.fullmatch(r"[\d.]+", value) else parsedate_to_datetime(value).timestamp() - time.time()
        )
    except (ValueError, OverflowError):
        return 0.0


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None
