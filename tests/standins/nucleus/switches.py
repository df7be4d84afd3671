"""What a test can turn on the nucleus stand-in, and the error that every refusal is.

The switches are plain attributes. A change is seen by the next request, connection or message.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LITE, CLASSIC = "lite", "classic"
SERVICE_ERROR = "ServiceError"
INVALID_ARGUMENTS = "InvalidArgumentsError"
NOT_FOUND = "ResourceNotFoundError"
UNAUTHORIZED = "UnauthorizedError"
OUTDATED = "FailedUpdateConditionCheckError"


class IpcError(Exception):
    """An answer that is an error. `code` is the name of its shape, such as ServiceError."""

    def __init__(self, code: str = SERVICE_ERROR, message: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(kw_only=True, eq=False)
class Switches:
    """Every fault, at its harmless setting. Operations are named without their prefix: "PublishToTopic".

    mode            "lite" or "classic"; does not change while the stand-in runs
    size_guards     what nucleus lite does not carry is refused or lost as there; of no effect in classic
    silent_on       operations that are neither done nor answered; "*" is every one
    errors          operation -> the error it is answered with instead of being done
    delays          operation -> seconds until it is done and answered; nothing else is held up
    drop_on         this operation is done once, then its connection is dropped instead of answering it;
                    becomes "" again
    refuse          no token is good
    silent_connect  connections are accepted and then ignored
    floats          whole numbers in configurations and JSON messages arrive as floats (10 -> 10.0), as they
                    can on classic; None is: in classic only
    """

    mode: str = LITE
    size_guards: bool = True
    silent_on: set[str] = field(default_factory=set)
    errors: dict[str, IpcError] = field(default_factory=dict)
    delays: dict[str, float] = field(default_factory=dict)
    drop_on: str = ""
    refuse: bool = False
    silent_connect: bool = False
    floats: bool | None = None

    @property
    def lite(self) -> bool:
        return self.mode == LITE

    @property
    def guarded(self) -> bool:
        """Whether the sizes of nucleus lite count."""
        return self.lite and self.size_guards

    @property
    def with_floats(self) -> bool:
        return not self.lite if self.floats is None else self.floats
