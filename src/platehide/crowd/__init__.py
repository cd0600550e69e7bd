"""Four corners from a crowd that need not be trusted: everything that runs on the base install.

Pure functions over judgements and events; the web application (``platehide.annotate``) stores
them and calls in here.
"""
