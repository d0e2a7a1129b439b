"""Features of clips and class names: the value that training takes, and the readers that produce it."""
