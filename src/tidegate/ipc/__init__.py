"""What the nucleus wants of a component, and tells it. Importing this brings the SDK along."""

from tidegate.ipc.configuration import Configuration
from tidegate.ipc.nucleus import Nucleus

__all__ = ["Configuration", "Nucleus"]
