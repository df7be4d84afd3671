"""What files are called by rules and by code that a user brings along; and which of them are ignored."""

from tidegate.customize.names import Name, Namer
from tidegate.customize.shelf import Shelf

__all__ = ["Name", "Namer", "Shelf"]
