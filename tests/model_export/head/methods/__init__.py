"""Each method against independent oracles."""
