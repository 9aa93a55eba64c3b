"""Flip bits of files that the program has written, truncate them, and read them back."""
