"""Tables for the terminal, and figures."""
