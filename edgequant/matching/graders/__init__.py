"""From an answer's text to a verdict."""
