"""What files are called by rules and by code that a user brings along; and which of them are ignored."""

from tidegate.customize.names import Name, Namer, Namers
from tidegate.customize.shelf import Shelf

__all__ = ["Name", "Namer", "Namers", "Shelf"]
