"""The demo world's own tiny CLIP and CLAP: towers, tokenizer, training."""
