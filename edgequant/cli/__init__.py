"""The command line: parse, call the stage, print. No logic."""
