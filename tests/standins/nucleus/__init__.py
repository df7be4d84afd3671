"""A stand-in for a Greengrass nucleus: its IPC, seen from a component. For tests, the demo and benchmarks only.

It speaks Greengrass IPC over a Unix socket to the unmodified awsiotsdk, as one of two nuclei: `lite`
(aws.greengrass.NucleusLite 2.6) or `classic` (aws.greengrass.Nucleus). It keeps configurations, carries local
messages, and stands for AWS IoT Core behind the MQTT proxy.

    python -m tests.standins.nucleus --mode lite --config config.yaml --socket /tmp/ipc.socket
    python -m tests.standins.nucleus request tidegate/statistics/get '{}' --socket /tmp/ipc.socket

It was built from notes of what was measured on a running nucleus lite 2.6.0 with awsiotsdk 1.31, from the AWS
developer guide, and from reading the sources of both nuclei (main branches; that of lite is newer than 2.6.0). It
was never itself compared with a running nucleus. What it does is known to different degrees.

MEASURED on nucleus lite
  - the frames; a refused token, a ping, stream 0, a second connect, a wrong checksum or a frame of more than
    10,012 bytes closes the whole connection, and nobody says why
  - errors have `_message` and `_errorCode` only; unknown operations are a ServiceError without a message,
    among them everything about component updates and configuration validation
  - leaves come wrapped in a map, missing keys are ResourceNotFoundError, accessControl cannot be updated,
    a map does not go where a scalar is
  - a local JSON message of more than about 42 list items silently kills the subscriptions it is for; a value
    of the configuration may have about 1,020 bytes of JSON, a write about 200 objects. Here these edges are
    sharp: 50, 200 and 255 objects are the sources' numbers, and 1,020 is taken as exact
  - messages of more than 5,000 bytes (whole MQTT packet) from the cloud are dropped without a word
  - offline, publishing to and subscribing to IoT Core is a ServiceError at once: there is no spooler
  - receiveMode is ignored; overlapping IoT Core filters bring a message once for each matching pair, which is
    read as: each of n matching subscriptions gets it once for each distinct matching filter
  - after a restart of the IPC daemon every token is invalid

FROM THE SOURCES, or documented
  - lite: an event of more than 10,000 bytes is lost, a response becomes a ServiceError; an update with an old
    timestamp is ignored; a reset of configuration tells nobody and ends the subscriptions below it; a write
    that fails half-way stays half done; the policies of a service may have 4,096 bytes
  - classic: errors have `message` too; unsupported operations are a ServiceError that says so; keys are the
    same in either case; whole numbers may come as floats; old timestamps fail the update; topics of
    publications have no wildcards, wildcard subscriptions get messages of others only, `a/#` does not match
    `a`; QoS 0 is refused offline, QoS 1 is spooled up to 2.5 MB; IoT Core topics have up to 7 slashes;
    component updates and validation as here; metrics are for components named aws.… only
  - in policies `*` matches anything, `+` and `#` only those for the MQTT proxy

OUR CHOICE (it had to be something)
  - a component without accessControl may do everything, so that a test need not state policies; one that has
    it is held to it
  - a leaf that is written again unchanged makes no event
  - subscribing to IoT Core offline fails at once on classic too
  - a component with the token of `OPERATOR` is always welcome: it is the one of the command line

It does not show: how fast a nucleus is, in what order it delivers under load, how many clients and
subscriptions it takes, retained messages, user properties or any other MQTT 5 property, quotas and the latency of
the cloud, the life cycle of components (nobody is started, stopped or restarted by it), secrets, shadows, local
deployments, and the checks of recipes.
"""

from tests.standins.nucleus.messages import Message
from tests.standins.nucleus.standin import COMPONENT, OPERATOR, SOCKET_VARIABLE, NucleusStandIn
from tests.standins.nucleus.switches import CLASSIC, LITE, IpcError

__all__ = [
    "CLASSIC",
    "COMPONENT",
    "LITE",
    "OPERATOR",
    "SOCKET_VARIABLE",
    "IpcError",
    "Message",
    "NucleusStandIn",
]
