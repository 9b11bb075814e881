"""A corpus on disk: its format, what is in it, and what others read it as."""
