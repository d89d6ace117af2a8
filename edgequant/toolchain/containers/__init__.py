"""Build inside a container: ``Dockerfile.arm64-build`` through docker, podman or buildah."""

from edgequant.toolchain.containers.compile import (
    ContainerBuild,
    compile_in_container,
    container_identity,
)
from edgequant.toolchain.containers.engine import ENGINE_NAMES, Engine, find_engine

__all__ = [
    "ENGINE_NAMES",
    "ContainerBuild",
    "Engine",
    "compile_in_container",
    "container_identity",
    "find_engine",
]
