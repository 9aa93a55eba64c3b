"""Launchers for jobs of several processes."""
