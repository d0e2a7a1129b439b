"""Hub: from a model's name to a verified local file. Files are downloaded here, never unpickled."""
