"""What a user can say: the keys, their values, and what is wrong with them, told all at once."""

from tidegate.config.keys import KEYS, After, HoldBack, NameEscaping
from tidegate.config.parse import Config, Source, StreamManager, parse

__all__ = ["KEYS", "After", "Config", "HoldBack", "NameEscaping", "Source", "StreamManager", "parse"]
