"""Seconds per token: run the probe on a board, statistics, roofline predictions."""
