"""What can go wrong with a run folder or a training run."""


class RunError(Exception):
    """A run folder cannot be used, or training cannot go on; the message says why and what to do."""
