"""Whether answers are right, as sure as they say, and the same again."""
