"""Label Studio ML backend: regions of a video's timeline, named by the project's own labels."""
