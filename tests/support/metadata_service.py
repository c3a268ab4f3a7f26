"""A stand-in of EC2's instance metadata service (IMDSv2) on this machine."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

TOKEN, LIFETIME = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"


class MetadataService:
    """Answers as the real one: a token for a PUT, and the `items` to requests with a valid token.

    `hang` makes it accept connections and answer nothing, until it is cleared.
    """

    def __init__(self, **items: str) -> None:
        self.items = {name.replace("__", "/").replace("_", "-"): items[name] for name in items}
        self.asked: list[tuple[str, str, int]] = []
        """Method, path and status of each answered request."""
        self.hang = threading.Event()
        self._going_on = threading.Event()
        self._tokens = 0
        self._valid = ""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                lifetime = int(self.headers.get(LIFETIME) or 0)
                if self.path != "/latest/api/token" or not 1 <= lifetime <= 21_600:
                    return self.answer(400)
                service._tokens += 1
                service._valid = f"token-{service._tokens}"
                return self.answer(200, service._valid)

            def do_GET(self) -> None:
                if not service._valid or self.headers.get(TOKEN) != service._valid:
                    return self.answer(401)
                item = service.items.get(self.path.removeprefix("/latest/meta-data/"))
                return self.answer(404) if item is None else self.answer(200, item)

            def answer(self, status: int, text: str = "") -> None:
                if service.hang.is_set():
                    service._going_on.wait(60)
                service.asked.append((str(self.command), self.path, status))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def announce(self, seconds: float, action: str = "terminate") -> None:
        """Announce an interruption that many seconds from now."""
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        notice = {"action": action, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        self.items["spot/instance-action"] = json.dumps(notice)

    def expire_tokens(self) -> None:
        self._valid = ""

    def answer_again(self) -> None:
        self.hang.clear()
        self._going_on.set()

    def __enter__(self) -> MetadataService:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.answer_again()
        self._server.shutdown()
        self._server.server_close()
