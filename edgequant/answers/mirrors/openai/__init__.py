"""Mirrors by URL: whatever speaks OpenAI's protocol, one server or several."""
