"""Jobs over HTTP: what works on them, who watches them, and how their end is reported."""
