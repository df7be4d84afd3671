"""Bodies of our own: bytes that must outlive us and that no file of the user holds."""

from tidegate.spool.spool import RESERVE, Spool

__all__ = ["RESERVE", "Spool"]
