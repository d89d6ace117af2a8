"""A hub on loopback that speaks the protocol, with a second host for large files.

Small files come from the hub itself, large ones (``lfs``) by a redirect to the other host, as the
real one does it: with X-Repo-Commit, X-Linked-Etag and X-Linked-Size, ranges, and X-Error-Code.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_" + "secret" * 5


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """One repository: its only commit's files."""

    files: dict[str, bytes]
    lfs: frozenset[str] = frozenset()
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    renamed_to: str = ""

    def hash_of(self, path: str) -> str:
        content = self.files[path]
        return hashlib.sha256(content).hexdigest() if path in self.lfs else git_hash(content)


@dataclass
class Server:
    """What is served, how it misbehaves, and what it was asked."""

    url: str = ""
    cdn: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    """By ``models/org/name`` or ``datasets/org/name``."""
    asked: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    """Method, path, Range and Authorization of each request, in their order."""
    break_after: list[int] = field(default_factory=list)
    """The next large files break off after so many bytes each."""
    chunk: int = 1 << 16
    chunk_seconds: float = 0.0
    """A slow link: the pause after each chunk."""
    no_ranges: bool = False
    no_blobs: bool = False
    """A mirror whose listings tell neither sizes nor hashes."""
    no_hashes: bool = False
    endless: bool = False
    """Large files go on beyond their size."""
    spoilt: int = 0
    """So many large files come with their first byte changed."""
    status: int = 200
    listing: bytes | None = None
    """Sent in place of any listing."""

    def paths(self) -> list[str]:
        return [path for _, path, *_ in self.asked]

    def add_model(self, name: str, files: Mapping[str, bytes], **more: Any) -> Repo:
        lfs = frozenset(n for n in files if n.endswith((".safetensors", ".gguf", ".bin")))
        repo = Repo(dict(files), lfs, **more)
        self.repos[f"models/{name}"] = repo
        return repo


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        state = self.server_state
        path = unquote(urlsplit(self.path).path).lstrip("/")
        state.asked.append(
            (self.command, path, self.headers.get("Range"), self.headers.get("Authorization"))
        )
        if state.status != 200:
            self._refuse(state.status)
        elif path.startswith("cdn/"):
            self._large(path)
        elif path.startswith("api/"):
            self._listing(path.removeprefix("api/"))
        else:
            self._file(path)

    def _repo(self, name: str, *, files: bool) -> Repo | None:
        """The repository, unless it is refused: as the real hub does, with or without a token."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in (TOKEN, TOKEN + "-not-let-in"):
            message = "Invalid credentials in Authorization header"
            self._refuse(401, message=message)
            return None
        repo = self.server_state.repos.get(name)
        if repo is None:
            code = "RepoNotFound" if token else ""
            self._refuse(404 if token else 401, code, "Invalid username or password.")
            return None
        if files and repo.gated and token != TOKEN:
            self._refuse(403 if token else 401, "GatedRepo", "Access is restricted")
            return None
        return repo

    def _listing(self, path: str) -> None:
        state = self.server_state
        name, _, revision = path.partition("/revision/")
        repo = self._repo(name, files=False)
        if repo is None:
            return
        if repo.renamed_to:
            self._send(307, {"Location": f"/api/{repo.renamed_to}/revision/{revision}?blobs=true"})
            return
        if revision not in (*repo.revisions, repo.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings: list[dict[str, Any]] = []
        for file, content in repo.files.items():
            sibling: dict[str, Any] = {"rfilename": file}
            if not state.no_blobs:
                sibling |= {"size": len(content), "blobId": git_hash(content)}
                if file in repo.lfs:
                    lfs = {"sha256": repo.hash_of(file), "size": len(content), "pointerSize": 134}
                    sibling["lfs"] = lfs
            siblings.append(sibling)
        info = {"id": name.partition("/")[2], "sha": repo.commit, "siblings": siblings}
        body = json.dumps(info).encode() if state.listing is None else state.listing
        self._send(200, {"Content-Type": "application/json"}, body)

    def _file(self, path: str) -> None:
        state = self.server_state
        name, _, rest = path.partition("/resolve/")
        _revision, _, file = rest.partition("/")
        kind = name if name.startswith("datasets/") else f"models/{name}"
        repo = self._repo(kind, files=True)
        if repo is None:
            return
        if file not in repo.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content = repo.files[file]
        headers = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        tag = '"none"' if state.no_hashes else f'"{repo.hash_of(file)}"'
        if file in repo.lfs:
            headers |= {"X-Linked-Etag": tag, "X-Linked-Size": str(len(content))}
            self._send(302, {**headers, "Location": f"{state.cdn}/cdn/{kind}/{file}"})
        else:
            self._send(200, {**headers, "ETag": tag}, content)

    def _large(self, path: str) -> None:
        state = self.server_state
        repo, file = next(
            (repo, path.removeprefix(f"cdn/{name}/"))
            for name, repo in state.repos.items()
            if path.startswith(f"cdn/{name}/")
        )
        content = repo.files[file]
        if state.spoilt:
            state.spoilt -= 1
            content = bytes([content[0] ^ 1]) + content[1:]
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and not state.no_ranges:
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            status = 206
        else:
            start, headers, status = 0, {}, 200
        body = content[start:] + (bytes(1 << 20) if state.endless else b"")
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = state.break_after.pop(0) if state.break_after else len(body)
        with contextlib.suppress(ConnectionError):
            for place in range(0, min(limit, len(body)), state.chunk):
                self.wfile.write(body[place : min(place + state.chunk, limit)])
                time.sleep(state.chunk_seconds)
        if limit < len(body):
            self.close_connection = True

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        body = json.dumps({"error": message}).encode()
        self._send(status, {k: v for k, v in headers.items() if v}, body)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """A hub and its host of large files, while the block runs."""
    state = Server()
    handler = type("Handler", (_Handler,), {"server_state": state})
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as hub,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as cdn,
    ):
        state.url = f"http://127.0.0.1:{hub.server_port}"
        # Another host by its name, so that a client has to keep its token to itself.
        state.cdn = f"http://localhost:{cdn.server_port}"
        threads = [
            threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.02})
            for s in (hub, cdn)
        ]
        for server in (hub, cdn):
            server.daemon_threads = True
        for thread in threads:
            thread.start()
        try:
            yield state
        finally:
            for server in (hub, cdn):
                server.shutdown()
            for thread in threads:
                thread.join()
