"""Embed: what is known of candidate names without any clip, kept in memory and on disk."""
