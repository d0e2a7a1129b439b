"""Tests of who is let in, and how much of what they send is held."""
