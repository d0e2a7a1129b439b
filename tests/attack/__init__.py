"""Attacks: quick ones for every test run, and longer ones as commands (make fuzz, crash, soak)."""
