"""Commands of `ahse` that need the training packages: train, evaluate, report, dataset."""
