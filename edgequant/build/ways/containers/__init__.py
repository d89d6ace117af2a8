"""Build inside a container: ``Dockerfile.arm64-build`` through docker, podman or buildah."""

from edgequant.build.ways.containers.compile import (
    ContainerBuild,
    compile_in_container,
    container_identity,
)
from edgequant.build.ways.containers.engine import ENGINE_NAMES, Engine, find_engine

__all__ = [
    "ENGINE_NAMES",
    "ContainerBuild",
    "Engine",
    "compile_in_container",
    "container_identity",
    "find_engine",
]
