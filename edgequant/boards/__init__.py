"""Boards: profiles, facts, transports, deploy and the virtual board."""
