"""Extract: a user's own clips, through the encoders of a bundle, to a feature file."""
