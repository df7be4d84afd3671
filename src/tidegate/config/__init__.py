"""What a user can say: the keys, their values, and what is wrong with them, told all at once."""

from tidegate.config.bandwidth import Bandwidth
from tidegate.config.keys import (
    KEYS,
    After,
    CarrierChoice,
    Compress,
    Evict,
    HoldBack,
    OnConflict,
    UploadOrder,
    Verify,
)
from tidegate.config.naming import NameEscaping
from tidegate.config.parse import Attributes, Config, S3Settings, Source, StreamManager, only_direct, parse
from tidegate.config.values import DiskLimit

__all__ = [
    "KEYS",
    "After",
    "Attributes",
    "Bandwidth",
    "CarrierChoice",
    "Compress",
    "Config",
    "DiskLimit",
    "Evict",
    "HoldBack",
    "NameEscaping",
    "OnConflict",
    "S3Settings",
    "Source",
    "StreamManager",
    "UploadOrder",
    "Verify",
    "only_direct",
    "parse",
]
