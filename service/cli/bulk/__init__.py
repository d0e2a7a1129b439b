"""`ahse bulk`: clips by the million, in shards that any number of machines work on."""
