"""The source pin: what is built, where it comes from, and moving it to another version."""
