"""What is wrong with a model's name or its files, said in one sentence with what to do."""


class HubError(Exception):
    """A model file could not be had; the message says which one and what to do."""


class PinError(HubError):
    """A file is there, but it is not the one that is pinned."""
