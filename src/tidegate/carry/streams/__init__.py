"""The carrier that hands uploads to Greengrass Stream Manager, which keeps them across restarts."""

from tidegate.carry.streams.carrier import Streams

__all__ = ["Streams"]
