"""Jobs: clips that are worked on behind ordinary requests, kept with their results until they expire."""
