"""Reads EC2's instance metadata (IMDS, version 2) with nothing but the standard library."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

EC2_METADATA = "http://169.254.169.254"
"""The address of the service, the same on every instance. It cannot be reached from elsewhere."""
TOKEN_SECONDS = 21_600
"""How long a session token is valid: the longest that the service grants."""


class InstanceMetadata:
    """The metadata of this instance, read from `url`; each request takes `timeout` s at most.

    Protocol: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
    """

    def __init__(self, url: str = EC2_METADATA, timeout: float = 2.0) -> None:
        self.url = url
        self._timeout, self._token = timeout, ""
        # No proxy: the address is of this instance.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read(self, path: str) -> str | None:
        """Return the item at `path` (as `spot/instance-action`); None if there is no such item.

        `OSError` if the service does not answer, or refuses.
        """
        self._token = self._token or self._new_token()
        try:
            try:
                return self._get(path)
            except urllib.error.HTTPError as error:
                if error.code != http.client.UNAUTHORIZED:
                    raise
            self._token = self._new_token()  # the old one has expired
            return self._get(path)
        except urllib.error.HTTPError as error:
            if error.code == http.client.NOT_FOUND:
                return None
            raise

    def _get(self, path: str) -> str:
        return self._request(
            "GET", f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token}
        )

    def _new_token(self) -> str:
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
        return self._request("PUT", "/latest/api/token", lifetime)

    def _request(self, method: str, path: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(self.url + path, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                body: bytes = answer.read()
                return body.decode("utf-8", errors="replace")
        except http.client.HTTPException as error:  # not an answer of HTTP, or half of one
            raise OSError(f"{self.url}{path}: {error!r}") from error
