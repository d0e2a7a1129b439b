"""MCP server: an assistant classifies local clips, and reads and edits label sets."""
