"""Strategies: what a question is made into."""
