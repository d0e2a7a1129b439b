"""FiftyOne: names for the videos of a dataset, and for their parts."""
