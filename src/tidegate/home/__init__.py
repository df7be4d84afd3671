"""A mothership from the side of the device: calling it, and doing what it may ask for, and nothing else."""

from tidegate.home.caller import Home
from tidegate.home.memory import KEYS_FILE, Memory
from tidegate.home.overlay import Overlay

__all__ = ["KEYS_FILE", "Home", "Memory", "Overlay"]
