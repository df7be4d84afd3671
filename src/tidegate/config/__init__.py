"""What a user can say: the keys, their values, and what is wrong with them, told all at once."""

from tidegate.config.back import RestoreSettings
from tidegate.config.bandwidth import Bandwidth
from tidegate.config.home import ALLOWABLE, HomeSettings, is_near
from tidegate.config.inward import Download, Socket
from tidegate.config.keys import (
    KEYS,
    After,
    Archive,
    CarrierChoice,
    Compress,
    Evict,
    HoldBack,
    Mode,
    OnConflict,
    UploadOrder,
    Verify,
)
from tidegate.config.naming import NameEscaping
from tidegate.config.parse import (
    OBJECTS_NAME,
    Attributes,
    Config,
    EventSettings,
    S3Settings,
    Source,
    StreamManager,
    only_direct,
    parse,
)
from tidegate.config.places import Framing, SocketAddress
from tidegate.config.schedule import Schedule
from tidegate.config.values import DiskLimit

__all__ = [
    "ALLOWABLE",
    "KEYS",
    "OBJECTS_NAME",
    "After",
    "Archive",
    "Attributes",
    "Bandwidth",
    "CarrierChoice",
    "Compress",
    "Config",
    "DiskLimit",
    "Download",
    "EventSettings",
    "Evict",
    "Framing",
    "HoldBack",
    "HomeSettings",
    "Mode",
    "NameEscaping",
    "OnConflict",
    "RestoreSettings",
    "S3Settings",
    "Schedule",
    "Socket",
    "SocketAddress",
    "Source",
    "StreamManager",
    "UploadOrder",
    "Verify",
    "is_near",
    "only_direct",
    "parse",
]
