"""Answers and seconds joined: grades, cuts, crossovers, intervals. Pure."""
