"""Real encoders: open_clip and CLAP models, loaded without surprises, as the parts of a bundle."""
