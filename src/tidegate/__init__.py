"""tidegate: everything that moves files between an edge device and S3."""

__version__ = "0.1.0"
