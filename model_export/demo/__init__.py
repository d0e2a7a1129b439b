"""The demo world: procedurally made clips with a picture and a sound, their captions and their classes."""
