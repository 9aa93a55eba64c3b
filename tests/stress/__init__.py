"""Long campaigns: hostile files, faults, kills."""
