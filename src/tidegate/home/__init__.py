"""A mothership from the side of the device: calling it, and doing what it may ask for, and nothing else."""

from tidegate.home.caller import Home
from tidegate.home.front import open_home, with_credentials

__all__ = ["Home", "open_home", "with_credentials"]
