"""Who is let in, how much of what they send is held, and for how long."""
