"""A package index on loopback with one made project, for a real pip."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgequant.build.source.requirements import (
    HEADER,
    NEEDED_FILES,
    probe_needs,
    probe_source,
)

PROJECT = "llama-cpp-python"
BACKEND_PROJECT = """\
[build-system]
requires = ["scikit-build-core"]
build-backend = "scikit_build_core.build"
"""
# pip runs this where it is allowed to: the tests insist that it never is.
SETUP = "import pathlib; pathlib.Path('{mark}').touch()\n"
TOOLS = (
    "llama-bench",
    "llama-completion",
    "llama-server",
    "llama-quantize",
    "llama-perplexity",
    "llama-imatrix",
    "llama-tokenize",
)


def tree_files(tools: tuple[str, ...] = TOOLS) -> dict[str, str]:
    """A llama.cpp that has all that edgequant asks for, in names alone."""
    files = dict.fromkeys(NEEDED_FILES, "")
    needs = probe_needs(probe_source().read_text(encoding="utf-8"))
    fields = "".join(f"    int {name};\n" for name in sorted(needs.fields))
    names = "".join(f"LLAMA_API void {name}(void);\n" for name in sorted(needs.names))
    files[HEADER] = f"struct llama_context_params {{\n{fields}}};\n{names}"
    for tool in tools:
        folder = tool.removeprefix("llama-")
        files[f"tools/{folder}/CMakeLists.txt"] = (
            f"set(TARGET {tool})\nadd_executable(${{TARGET}} main.cpp)\n"
        )
    return files


def write_tree(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """The files below a folder."""
    for name, text in (tree_files() if files is None else files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_sdist(
    path: Path,
    version: str,
    *,
    commit: str | None = None,
    changelog: str = "",
    tree: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
) -> Path:
    """A source archive as llama-cpp-python publishes them."""
    top = f"llama_cpp_python-{version}"
    files = {f"vendor/llama.cpp/{name}": text for name, text in (tree or tree_files()).items()}
    files |= {"pyproject.toml": BACKEND_PROJECT, "CHANGELOG.md": changelog, **(more or {})}
    if commit is not None:
        files[".git/modules/vendor/llama.cpp/HEAD"] = commit + "\n"
    with tarfile.open(path, "w:gz") as stream:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(text.encode())
            stream.addfile(member, io.BytesIO(text.encode()))
    return path


class Index:
    """What is served: archives, and what the index says of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._hashes: dict[str, str | None] = {}
        self.url = ""
        (root / "files").mkdir(parents=True)
        self._write_page()

    def add(self, version: str, *, mark: Path | None = None, **content: object) -> Path:
        """Publish a version; the index states its archive's true SHA-256."""
        path = self.root / "files" / f"llama_cpp_python-{version}.tar.gz"
        more = {} if mark is None else {"setup.py": SETUP.format(mark=mark)}
        write_sdist(path, version, more=more, **content)  # type: ignore[arg-type]
        self.state(version, hashlib.sha256(path.read_bytes()).hexdigest())
        return path

    def state(self, version: str, sha256: str | None) -> None:
        """What the index says of a version's archive; None: nothing."""
        self._hashes[f"llama_cpp_python-{version}.tar.gz"] = sha256
        self._write_page()

    def _write_page(self) -> None:
        links = "".join(
            f'<a href="../../files/{name}{f"#sha256={sha256}" if sha256 else ""}">{name}</a>\n'
            for name, sha256 in self._hashes.items()
        )
        page = self.root / "simple" / PROJECT / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"<!DOCTYPE html><html><body>{links}</body></html>", encoding="utf-8")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(root: Path) -> Iterator[Index]:
    """Serve an index while the block runs."""
    index = Index(root)
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        index.url = f"http://127.0.0.1:{server.server_port}/simple"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
