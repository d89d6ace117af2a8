"""Requests to a server over HTTP: sent again where that is safe, every failure explained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from edgequant.answers.mirrors.llama_server.api import unreadable
from edgequant.core.errors import MirrorError, MirrorRefusedError
from edgequant.core.json_file import parse_json

REQUEST_SECONDS = 3600.0
"""How long one answer may take: a large model on a slow host needs many minutes."""
CONNECT_SECONDS = 10.0
ATTEMPTS = 3


class HttpClient:
    """One server's.

    Args:
        url: where it listens.
        subject: what errors are about: the model it serves.
        log: the server's output, for the next step.
        check_server: called when a connection breaks; raises if the server has died.
    """

    def __init__(
        self, url: str, *, subject: Path, log: Path, check_server: Callable[[], None]
    ) -> None:
        self.url = url
        self._subject = subject
        self._log = log
        self._check_server = check_server
        self._client = httpx.Client(
            base_url=url,
            # A proxy from the environment must never stand between us and the loopback.
            trust_env=False,
            timeout=httpx.Timeout(REQUEST_SECONDS, connect=CONNECT_SECONDS),
        )

    def is_healthy(self) -> bool:
        """Whether the server says that it can answer."""
        with contextlib.suppress(httpx.TransportError):
            response = self._client.get("/health", timeout=CONNECT_SECONDS)
            return response.status_code == httpx.codes.OK
        return False

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request; sent again where the server closed the idle connection under us.

        Raises:
            MirrorError: no answer, a refusal, or an answer that is no JSON object.
        """
        response = self._send(method, path, body)
        if response.status_code != httpx.codes.OK:
            refused = response.is_client_error
            raise (MirrorRefusedError if refused else MirrorError)(
                f"llama-server refused {path}: {_refusal(response)}",
                subject=self._subject,
                next_step=f"read its log: {self._log}",
            )
        try:
            value = parse_json(response.content)
        except ValueError as error:
            raise unreadable(self._subject, error) from error
        if not isinstance(value, dict):
            raise self._error(f"llama-server's answer to {path} is no object")
        return value

    def close(self) -> None:
        """Let go of the connections; a request that another thread waits for fails."""
        self._client.close()

    def _send(self, method: str, path: str, body: object) -> httpx.Response:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._client.request(method, path, json=body)
            except httpx.TimeoutException as error:
                raise self._error(
                    f"llama-server has not answered for {REQUEST_SECONDS:.0f} s"
                ) from error
            except (httpx.TransportError, RuntimeError) as error:
                # RuntimeError: another thread has stopped this mirror and closed the client.
                self._check_server()
                if attempt == ATTEMPTS or isinstance(error, RuntimeError):
                    raise MirrorError(
                        f"the connection to llama-server broke: {error}",
                        subject=self.url,
                        next_step=f"read its log: {self._log}",
                    ) from error
        raise AssertionError("unreachable")

    def _error(self, cause: str) -> MirrorError:
        return MirrorError(cause, subject=self._subject, next_step=f"read its log: {self._log}")


def _refusal(response: httpx.Response) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(response.json()["error"]["message"])
    return f"HTTP status {response.status_code}"
