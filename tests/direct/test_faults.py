"""Whatever S3 or the network do to a request of whatever kind: each file is stored exactly, and nothing is left."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.helpers import eventually
from tests.standins.faulty_s3 import CRC, Fault, error, page, reply
from tidegate.model import State

SMALL, LARGE = 300, 1500
TIMES = 2
"""So often each fault happens to each file: more often, and some would end in quarantine."""

WRONG = "AAAAAAAAAAA="
ETAG = '"00000000000000000000000000000000"'
PART = "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag><Size>{}</Size><ChecksumCRC64NVME>{}</ChecksumCRC64NVME></Part>"
WRONG_PARTS = "".join(PART.format(number, ETAG, 400, WRONG) for number in (1, 2, 3, 4, 9))

NETWORK = {
    "cut before the answer": Fault(cut=0),
    "cut in the head": Fault(cut=25),
    "half a response": Fault(cut=120),
    "reset": Fault(cut=0, reset=True),
    "reset before the body": Fault(b"-", take=0, cut=0, reset=True),
    "slow": Fault(delay=0.3),
    "too slow": Fault(delay=1.5),
    "hung up on": Fault(hang_up=True),
    "early answer": Fault(error(503, "SlowDown"), take=0),
    "no http": Fault(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "portal": Fault(reply(200, body=b"<html>log in first</html>")),
}
ANSWERS = {
    f"{status} {code}": Fault(error(status, code))
    for status, code in (
        (400, "BadDigest"),
        (400, "RequestTimeout"),
        (403, "AccessDenied"),
        (403, "RequestTimeTooSkewed"),
        (404, "NoSuchBucket"),
        (404, "NoSuchKey"),
        (404, "NoSuchUpload"),
        (409, "ConditionalRequestConflict"),
        (412, "PreconditionFailed"),
        (500, "InternalError"),
        (503, "SlowDown"),
    )
}
LIES = {
    "put": {"wrong checksum": Fault(reply(200, {"ETag": ETAG, CRC: WRONG}))},
    "head": {
        "wrong checksum": Fault(
            reply(200, {"ETag": ETAG, CRC: WRONG, "Content-Length": "300"}, is_head=True)
        ),
        "wrong size": Fault(reply(200, {"ETag": ETAG, "Content-Length": "299"}, is_head=True)),
    },
    "part": {"wrong checksum": Fault(reply(200, {"ETag": ETAG, CRC: WRONG}))},
    "list parts": {
        "parts that are not there": Fault(page("ListPartsResult", WRONG_PARTS)),
        "no parts": Fault(page("ListPartsResult", "")),
    },
    "complete": {
        "wrong checksum": Fault(
            page(
                "CompleteMultipartUploadResult",
                f"<ETag>{ETAG}</ETag><ChecksumCRC64NVME>{WRONG}</ChecksumCRC64NVME>",
            )
        ),
        "an error that says it is none": Fault(reply(200, body=b"<Error><Code>InternalError</Code></Error>")),
        "InvalidPart": Fault(error(400, "InvalidPart")),
    },
    "create": {
        "somebody else's upload": Fault(page("InitiateMultipartUploadResult", "<UploadId>x</UploadId>"))
    },
}
LEADS_TO = {  # what must go wrong first, so that there is a request of this kind
    "list parts": ("part", Fault(error(500, "InternalError"))),
    "abort": ("part", Fault(reply(200, {"ETag": ETAG, CRC: WRONG}))),
    "list uploads": ("create", Fault(cut=0)),
}
BELIEVED = {"abort": {"404 NoSuchUpload", "portal"}}
"""What an upload that is still open may be lost by: nothing of the answer tells that it is a lie."""

KINDS = ["put", "head", "create", "part", "list parts", "complete", "abort", "list uploads"]


class Script:
    """Does to each file what its name says, so many times, at requests of one kind."""

    def __init__(self, kind, faults, times=TIMES):
        self.kind = kind
        self.faults = faults
        self.times = times
        self.counts = Counter()

    def __call__(self, seen):
        name = seen.query.get("prefix") or seen.path.partition("/")[2]
        self.counts[name, seen.kind] += 1
        lead, fault = LEADS_TO.get(self.kind, ("", None))
        if seen.kind == lead and self.counts[name, lead] <= self.times:
            return fault
        if seen.kind == self.kind and self.counts[name, self.kind] <= self.times:
            return self.faults[name]
        return None


def faults_for(kind):
    """All faults by a name that can be a key as it is."""
    every = NETWORK | ANSWERS | LIES.get(kind, {})
    told = {name: fault for name, fault in every.items() if name not in BELIEVED.get(kind, ())}
    return {name.replace(" ", "-").replace("'", ""): fault for name, fault in told.items()}


def bodies(server):
    return {path.partition("/")[2]: held.body for path, held in server.objects.items()}


def is_clean(depot, server):
    """Let an hour pass, and see that no upload is left open, neither there nor in the ledger."""
    depot.run_for(3600, tick=100)
    eventually(lambda: not server.uploads)
    return depot.ledger.uploads.stale() == []


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_goes_wrong_with_a_request_in_the_end_each_file_is_stored_exactly(on_faulty, kind):
    script = Script(kind, faults_for(kind))
    keys = {"Verify": "Head"} if kind == "head" else {}
    depot, server = on_faulty(script, read_seconds=0.8, workers=8, **keys)
    size = SMALL if kind in ("put", "head") else LARGE
    files = {name: os.urandom(size) for name in script.faults}
    depot.promise(*(depot.write(name, content) for name, content in files.items()))
    depot.settle(tick=2)
    assert depot.tally() == {State.STORED: len(files)}
    assert bodies(server) == files
    assert {name for name in files if not script.counts[name, kind]} == set()  # each had its fault
    assert is_clean(depot, server)
