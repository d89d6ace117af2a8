"""The steps that make one model file from another."""
