"""Tests of the examination of data sets."""
