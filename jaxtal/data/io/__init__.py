"""Files of all kinds: opened, checked, written whole."""
