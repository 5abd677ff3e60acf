"""The explorer: a collection in a browser. A server of one table to one page, and the same page without a server."""
