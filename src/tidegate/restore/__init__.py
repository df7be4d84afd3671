"""Bulk retrieval of archived objects as one job: planned, asked for, watched, and brought home if wanted.

A job is one SQLite file (`journal`). `plan` finds out what has to be asked for, `direct` or `batch` asks,
`watch` looks how far it is, `fetch` downloads, `run` does all of it step by step and may be stopped anywhere.
"""
