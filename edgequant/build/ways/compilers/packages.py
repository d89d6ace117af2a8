"""Programs that Python packages bring: CMake, ninja, zig."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sysconfig
from pathlib import Path

from edgequant.core.errors import ToolMissingError


def build_program(name: str) -> Path:
    """The program that the build package of the same name brings (``cmake``, ``ninja``).

    Raises:
        ToolMissingError: the package is not installed.
    """
    return package_file(name, name)


def package_version(package: str) -> str:
    """Version of an installed Python package.

    Raises:
        ToolMissingError: it is not installed.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise _missing(package) from None


def package_folder(package: str) -> Path:
    """Folder of an installed Python package.

    Raises:
        ToolMissingError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise _missing(package)
    return Path(spec.origin).parent


def package_file(package: str, name: str) -> Path:
    """An executable that a package brought, inside it or among Python's scripts.

    Raises:
        ToolMissingError: the package or the executable is not there.
    """
    inside = package_folder(package)
    scripts = Path(sysconfig.get_path("scripts"))
    for path in (inside / name, inside / "data" / "bin" / name, scripts / name):
        if os.access(path, os.X_OK) and path.is_file():
            return path
    raise _missing(package)


def _missing(package: str) -> ToolMissingError:
    return ToolMissingError(
        f"the Python package {package} is not installed",
        next_step="pip install 'edgequant[build]'",
    )
