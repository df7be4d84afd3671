"""The ways in and out: local messages, IoT Core, a socket. Each only carries what the routes answer."""

from tidegate.doors.house import House
from tidegate.doors.porch import Porch

__all__ = ["House", "Porch"]
