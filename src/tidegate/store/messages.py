"""Sends short texts to SNS and SQS, by botocore: it is imported only where somebody wants that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate.errors import Refused, Unavailable

if TYPE_CHECKING:
    from tidegate.store.calls import Identity
    from tidegate.store.sigv4 import Credentials


class Messages:
    """One account in one region. `endpoint_url` is for stand-ins; without it AWS is where AWS is."""

    def __init__(
        self, identity: Identity, *, region: str, endpoint_url: str | None, ca_bundle: str | None
    ) -> None:
        self._identity = identity
        self._region = region
        self._endpoint_url = endpoint_url
        self._ca_bundle = ca_bundle
        self._clients: dict[tuple[str, str], Any] = {}
        self._credentials: Credentials | None = None

    def send(self, target: str, text: str, group: str, unique: str) -> None:
        """Send to an ARN of a topic, or the URL of a queue. Where order matters (FIFO), it is kept by group.

        Raises `Unavailable` when it may be tried again, `Refused` when AWS says no.
        """
        import botocore.exceptions  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy, and few need it

        fifo = {"MessageGroupId": group, "MessageDeduplicationId": unique} if target.endswith(".fifo") else {}
        try:
            if target.startswith("arn:"):
                region = target.split(":")[3] or self._region
                self._client("sns", region).publish(TopicArn=target, Message=text, **fifo)
            else:
                self._client("sqs", _region_of(target, self._region)).send_message(
                    QueueUrl=target, MessageBody=text, **fifo
                )
        except botocore.exceptions.ClientError as error:
            raise Refused(f"{target}: {error}") from error
        except botocore.exceptions.BotoCoreError as error:
            raise Unavailable(f"{target}: {error}") from error

    def close(self) -> None:
        """Hang up."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(self, service: str, region: str) -> Any:
        """Make a client, anew when the credentials are: they are renewed elsewhere."""
        import botocore.config  # type: ignore[import-untyped]  # noqa: PLC0415
        import botocore.session  # type: ignore[import-untyped]  # noqa: PLC0415

        credentials = self._identity.current()
        if credentials != self._credentials:
            self.close()
            self._credentials = credentials
        if (service, region) not in self._clients:
            self._clients[service, region] = botocore.session.Session().create_client(
                service,
                region_name=region,
                endpoint_url=self._endpoint_url,
                verify=self._ca_bundle,
                aws_access_key_id=credentials.access_key,
                aws_secret_access_key=credentials.secret_key,
                aws_session_token=credentials.token or None,
                config=botocore.config.Config(connect_timeout=5, read_timeout=20),
            )
        return self._clients[service, region]


def _region_of(url: str, otherwise: str) -> str:
    """The region of a queue, which its URL names; the other one for any other text."""
    names = url.partition("//")[2].partition("/")[0].split(".")
    return names[1] if len(names) > 2 and names[0] == "sqs" else otherwise
