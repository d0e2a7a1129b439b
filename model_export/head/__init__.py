"""The head: from frozen clip and text features to one 64-d space in which names rank clips."""
