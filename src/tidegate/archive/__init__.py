"""Many files as one: what is in an archive, and how it is written."""
