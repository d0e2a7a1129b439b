"""Clips per second and how they grow: this service, the straightforward one, and the limits, in one run."""
