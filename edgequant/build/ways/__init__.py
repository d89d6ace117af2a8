"""The ways to build: zig, gcc, a container."""
