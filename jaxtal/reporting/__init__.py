"""The report of finished runs: one HTML file that needs no network.

`runs` reads work directories, `results` makes the tables of their result.json, `browser` what the
page's script draws of the videos, and `page` the file, from the templates beside it.
"""
