"""Promises kept by this process, which uploads to S3 itself."""

from tidegate.carry.direct.annex import Terms
from tidegate.carry.direct.carrier import Direct
from tidegate.carry.direct.connect import connect
from tidegate.carry.direct.throttle import Throttle

__all__ = ["Direct", "Terms", "Throttle", "connect"]
