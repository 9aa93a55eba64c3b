"""HTML report of finished runs: one file that needs no network.

`runs` reads work directories, `tables` makes tables of their result.json, `video_browser` prepares
the data of the page's script, and `html` renders the page from the templates.
"""
