"""Reports of results: tables for the terminal and one self-contained HTML page.

Everything here starts from the plain document of schema 1 as it stands in ``results.json``, so a
report can be drawn again without running anything::

    document (dict) -> contents.read_study: checked and typed
        -> tables:  rich tables
        -> figures: plain plotly figures, laid out by panels -> html: the page, by page.html.j2

A document may come from anybody: it is checked on the way in and escaped on the way out.
``jinja2`` and ``plotly`` (the extra ``report``) are needed by the page alone.
"""
