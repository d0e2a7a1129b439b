"""Hub: from a model's name to a verified local file. Files are moved here, never unpickled."""
