"""The crowd annotation system: annotators' page, requester's pages, API and store (see
docs/annotation.md). Quality control and aggregation live in :mod:`platehide.crowd`.
"""
