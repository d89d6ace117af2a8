"""The links a board is reached by."""
