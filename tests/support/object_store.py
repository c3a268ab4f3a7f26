"""An S3 object store on loopback (moto's server), with faults: refusals, outages, hangs, delays."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pyarrow.fs as pafs
import pytest

pytest.importorskip("moto", reason="the extra dev is not installed")

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "bucket"
REFUSALS = (
    ("503 Slow Down", b"<Error><Code>SlowDown</Code><Message>slower</Message></Error>"),
    ("500 Internal Server Error", b"<Error><Code>InternalError</Code><Message>x</Message></Error>"),
)
DENIAL = ("403 Forbidden", b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment variables for clients of the store, which accepts any keys."""


class Store:
    """The store.

    `refuse` is the share of requests that it refuses, chosen at random from a seed. Requests whose
    address contains `deny` are denied. `delay` is the time in seconds before each answer.
    """

    def __init__(self, seed: int) -> None:
        self.refuse = 0.0
        self.deny: str | None = None
        self.delay = 0.0
        self.served: Counter[str] = Counter()
        """Requests that were served, as "GET /bucket/key"."""
        self.refused = 0
        self._dice = random.Random(seed)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._answering = threading.Event()
        self._answering.set()
        self._port = 0
        self._listen()

    def _listen(self) -> None:
        """Start the server, at its previous port if it had one."""
        self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True)
        self._port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[None]:
        """Stop the server inside the context; stored objects are kept."""
        self.close()
        try:
            yield
        finally:
            self._listen()

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Delay all answers until the context ends."""
        self._answering.clear()
        try:
            yield
        finally:
            self._answering.set()

    def uri(self, folder: str) -> str:
        at = f"endpoint_override=127.0.0.1:{self._port}&scheme=http&region=us-east-1"
        return f"s3://{BUCKET}/{folder}?{at}"

    def empty(self) -> None:
        """Stop all faults and leave an empty bucket only; moto keeps one memory per process."""
        self.refuse, self.deny, self.refused, self.delay = 0.0, None, 0, 0.0
        self.served.clear()
        reset = f"http://127.0.0.1:{self._port}/moto-api/reset"
        urllib.request.urlopen(urllib.request.Request(reset, method="POST")).close()
        anew = f"{self.uri('')}&allow_bucket_creation=true"
        pafs.FileSystem.from_uri(anew)[0].create_dir(BUCKET)

    def _answer(self, environment: dict[str, Any], start: Any) -> Any:
        address = f"{environment['PATH_INFO']}?{unquote(environment['QUERY_STRING'])}"
        with self._lock:
            refusal = self._dice.choice(REFUSALS) if self._dice.random() < self.refuse else None
            if self.deny is not None and self.deny in address:
                refusal = DENIAL
            if refusal is None:
                self.served[f"{environment['REQUEST_METHOD']} {environment['PATH_INFO']}"] += 1
            else:
                self.refused += 1
        self._answering.wait()
        time.sleep(self.delay)
        if refusal is None:
            return self._app(environment, start)
        status, body = refusal
        environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        sent = b"" if environment["REQUEST_METHOD"] == "HEAD" else body
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(sent)))])
        return [sent]


@contextlib.contextmanager
def object_store(seed: int = 0) -> Iterator[Store]:
    """Run a store with an empty bucket."""
    # It logs errors of moto when two requests write one key at once; the client then retries.
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in KEYS.items():
            environment.setenv(name, value)
        store = Store(seed)
        try:
            store.empty()
            yield store
        finally:
            store.close()
