"""Features of clips and class names: the value that training takes, and readers that make it."""
