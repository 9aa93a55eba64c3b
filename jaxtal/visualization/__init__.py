"""Tables in the terminal, and figures."""
