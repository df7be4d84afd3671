"""What comes to this device: objects of buckets, and lines and blocks of sockets."""

from tidegate.inward.inward import Inward
from tidegate.inward.plug import socket_ways

__all__ = ["Inward", "socket_ways"]
