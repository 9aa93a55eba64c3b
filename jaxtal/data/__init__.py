"""Data sets: read from disk in one of the field's layouts, or generated."""
