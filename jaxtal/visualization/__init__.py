"""Terminal output and figures."""
