"""Labels: candidate names, label sets and where they are kept."""
