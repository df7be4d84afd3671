"""Objects that are brought to this device and kept as the bucket has them."""

from tidegate.fetch.download import Downloader, Round
from tidegate.fetch.names import key_of

__all__ = ["Downloader", "Round", "key_of"]
