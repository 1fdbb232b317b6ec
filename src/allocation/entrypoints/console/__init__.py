"""The console: pages for the stock team, live, in the same process as everything else.

A page is a row of `pages.PAGES`: its parameters, its queries, and its live fragments. `live` renders those again after
a change; `protection` guards the forms; `app` puts it together.
"""

ROOT = "/console"
