"""Strategies: what a question is made into, and what its answers give under each budget."""
