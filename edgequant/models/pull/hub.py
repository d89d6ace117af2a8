"""One hub (or a mirror of it): its address, the token for it, and what its refusals mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from edgequant.core.errors import (
    EdgequantError,
    HubAccessError,
    HubAnswerError,
    HubNotFoundError,
    HubUnreachableError,
)
from edgequant.models.pull.request import PullRequest

_LOGIN = "`hf auth login`, or a token in HF_TOKEN"
_AGAIN = "run it again: it goes on where it stopped"


@dataclass(frozen=True)
class Hub:
    """Where things are pulled from, and where they are kept."""

    endpoint: str
    """Address without a slash at its end; HF_ENDPOINT."""
    cache: Path
    """The hub's own cache, which other programs share; by HF_HUB_CACHE or HF_HOME."""
    timeout_seconds: float = 10.0
    """Without a byte for so long a connection counts as broken."""
    pause_seconds: float = 1.0
    """Before a broken download is taken up again; doubled each time."""

    @classmethod
    def of_environment(cls) -> Hub:
        """The hub that the environment names, as for every other program that pulls.

        Raises:
            HubNotFoundError: HF_ENDPOINT is no address.
        """
        from huggingface_hub import constants

        endpoint = str(constants.ENDPOINT)
        if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname:
            raise HubNotFoundError(
                "is no address of a hub",
                subject="HF_ENDPOINT",
                next_step="it starts with https://, and names a host",
            )
        return cls(
            endpoint.rstrip("/"),
            Path(constants.HF_HUB_CACHE),
            timeout_seconds=float(constants.HF_HUB_DOWNLOAD_TIMEOUT),
        )

    @property
    def shown(self) -> str:
        """The address for messages: without a password that is part of it."""
        parts = urlsplit(self.endpoint)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def listing_url(self, request: PullRequest) -> str:
        """Where the hub tells a revision's commit and files."""
        revision = quote(request.revision, safe="")
        return f"{self.endpoint}/api/{request.kind}s/{request.id}/revision/{revision}?blobs=true"

    def file_url(self, request: PullRequest, commit: str, path: str) -> str:
        """Where a file of a commit is had."""
        kind = "datasets/" if request.kind == "dataset" else ""
        return f"{self.endpoint}/{kind}{request.id}/resolve/{commit}/{quote(path)}"

    @contextlib.contextmanager
    def get(self, url: str, request: PullRequest, *, start: int = 0) -> Iterator[Any]:
        """A response that is read piece by piece; a redirect to another host gets no token.

        Args:
            url: address.
            request: what it is part of, for messages.
            start: ask for the bytes from here on.

        Raises:
            HubNotFoundError, HubAccessError: the hub refuses it.
            HubUnreachableError: nothing answers, or what does broke off; also inside the block.
            HubAnswerError: no hub answers so.
        """
        import requests
        from huggingface_hub.errors import OfflineModeIsEnabled
        from huggingface_hub.utils import build_hf_headers, get_session

        headers = build_hf_headers(library_name="edgequant") | {"Accept-Encoding": "identity"}
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise HubAccessError(
                "has characters that no token has", subject="HF_TOKEN", next_step="copy it again"
            )
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with get_session().get(
                url, headers=headers, stream=True, timeout=self.timeout_seconds
            ) as response:
                if response.status_code >= 400:
                    raise self._refusal(
                        response.status_code,
                        response.headers,
                        request,
                        has_token="authorization" in headers,
                    )
                yield response
        except requests.exceptions.TooManyRedirects:
            raise HubAnswerError("leads in a circle", subject=self.shown) from None
        except requests.exceptions.Timeout:
            raise self._unreachable("does not answer in time") from None
        except requests.exceptions.SSLError:
            raise self._unreachable("has a certificate that is not accepted") from None
        except requests.exceptions.ProxyError:
            raise self._unreachable("is behind a proxy that does not answer") from None
        except requests.exceptions.RequestException as error:
            broke = isinstance(error, requests.exceptions.ChunkedEncodingError)
            raise self._unreachable("broke off" if broke else "cannot be reached") from None
        except OfflineModeIsEnabled:
            raise HubUnreachableError(
                "is not asked: HF_HUB_OFFLINE is set",
                subject=self.shown,
                next_step="unset HF_HUB_OFFLINE",
            ) from None

    def _unreachable(self, what: str) -> HubUnreachableError:
        return HubUnreachableError(
            what,
            subject=self.shown,
            next_step=f"check the network, or name a mirror in HF_ENDPOINT; then {_AGAIN}",
        )

    def _refusal(
        self, status: int, headers: Mapping[str, str], request: PullRequest, *, has_token: bool
    ) -> EdgequantError:
        code = headers.get("X-Error-Code", "")
        said = headers.get("X-Error-Message", "")
        page = f"{self.shown}/{'datasets/' if request.kind == 'dataset' else ''}{request.id}"
        if code == "GatedRepo":
            how = "its account was not let in" if has_token else "it needs a token"
            return HubAccessError(
                f"is gated, and {how}",
                subject=request.id,
                next_step=f"ask for access on {page}" + ("" if has_token else f", then {_LOGIN}"),
            )
        if code == "RevisionNotFound":
            return HubNotFoundError(
                f"has no revision {request.revision!r}",
                subject=request.id,
                next_step="give a branch, a tag or a commit hash that its page lists",
            )
        if code == "EntryNotFound":
            return HubNotFoundError(
                "lists a file that it does not have", subject=request.id, next_step=_AGAIN
            )
        if "disabled" in said:
            return HubAccessError(
                "was disabled by the hub", subject=request.id, next_step="take another one"
            )
        if status == 401 and has_token and code != "RepoNotFound":
            return HubAccessError(
                "does not accept the token",
                subject=self.shown,
                next_step="correct HF_TOKEN, or `hf auth login` anew",
            )
        if status in (401, 404) or code == "RepoNotFound":
            return HubNotFoundError(
                f"there is no such {request.kind} on {self.shown}, or it is private",
                subject=request.id,
                next_step="check its spelling"
                + ("" if has_token else f"; for a private one, {_LOGIN}"),
            )
        if status == 403:
            return HubAccessError(
                "may not be read with this token" if has_token else "may not be read by anybody",
                subject=request.id,
                next_step=f"use the token of an account that may read {page}",
            )
        if status in (408, 416, 429) or status >= 500:
            what = "is asked too often" if status == 429 else f"answers with status {status}"
            return HubUnreachableError(what, subject=self.shown, next_step=_AGAIN)
        return HubAnswerError(
            f"answers with status {status}",
            subject=self.shown,
            next_step="see that HF_ENDPOINT is the address of a hub",
        )
