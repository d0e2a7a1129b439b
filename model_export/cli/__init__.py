"""Commands of `ahse` that need the training packages."""
