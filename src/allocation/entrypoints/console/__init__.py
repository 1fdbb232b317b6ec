"""The console: pages for the stock team, live, in the same process as everything else.

A page is a row of `pages.PAGES`: what it takes, what it reads, and the fragments of it that are live. `live` renders
those again when something changed; `protection` guards the forms; `app` puts it together.
"""

ROOT = "/console"
