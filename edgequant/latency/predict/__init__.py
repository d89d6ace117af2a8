"""Latencies of boards that nobody measured."""
