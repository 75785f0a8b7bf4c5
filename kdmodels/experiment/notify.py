"""The `notify` field of the experiment file: the reported events of a run, and the receiver of the messages.

The address of a webhook is a secret, because whoever knows the address can write to the channel. No error message
shows the address, and the JSON form of an experiment hides it.
"""

import ipaddress
import os
import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from kdmodels.errors import UsageError, UserError
from kdmodels.experiment.schema import Part, mistake, parse, show

Event = Literal["promoted", "pending", "refused", "failed"]
HIDDEN = str(SecretStr("hidden"))  # the JSON form of every secret
ADDRESS = "an https address, an http address of this machine, or {env: NAME}"


class EnvironmentVariable(Part):
    """An environment variable that holds the address of a webhook, so that the file holds no secret."""

    env: str = Field(description="Name of the environment variable.")

    @field_validator("env", mode="after")
    @classmethod
    def _require_name(cls, name: str) -> str:
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise mistake(f"expected the name of an environment variable, got {_show(name)}")
        return name


class Notify(Part):
    """The settings of the messages that report the end of a run."""

    on: list[Event] = Field(min_length=1, description="Events that are reported.")
    webhook: SecretStr | EnvironmentVariable | None = Field(
        default=None,
        description="Address to which a message is posted as JSON, e.g. an incoming webhook of Slack or Mattermost, or "
        "{env: NAME} of an environment variable that holds the address.",
    )
    block: str | None = Field(
        default=None, description="Notification block of your Prefect server, e.g. slack-webhook/my-block."
    )

    @model_validator(mode="before")
    @classmethod
    def _hide_text(cls, raw: object) -> object:
        if isinstance(raw, str):  # the text may be the address
            raise mistake("expected a mapping such as {on: [promoted, failed], webhook: {env: NAME}}, got text")
        return raw

    @field_validator("webhook", mode="before")
    @classmethod
    def _parse_webhook(cls, raw: object) -> object:
        if raw is None or isinstance(raw, EnvironmentVariable):
            return raw
        if isinstance(raw, dict) and raw.keys() == {"env"}:
            return parse(EnvironmentVariable, raw)
        address = raw.get_secret_value() if isinstance(raw, SecretStr) else raw
        if not isinstance(address, str) or not (address == HIDDEN or _is_allowed(address)):
            raise mistake(f"expected {ADDRESS}, got another value, which is not shown because it may be a secret")
        return SecretStr(address)

    @field_validator("block", mode="after")
    @classmethod
    def _require_type_and_name(cls, block: str | None) -> str | None:
        if block is not None and not re.fullmatch(r"[^/\s]+/[^/\s]+", block):
            raise mistake(f"expected a block such as slack-webhook/my-block, got {_show(block)}")
        return block

    @model_validator(mode="after")
    def _require_one_receiver(self) -> Self:
        if (self.webhook is None) == (self.block is None):
            raise mistake("expected one of notify.webhook and notify.block", "webhook")
        return self

    @property
    def address(self) -> str:
        """The address of the webhook.

        Raises:
            UserError: The address was hidden when the experiment was recorded, or the environment variable is not set
                or holds no allowed address.
        """
        if isinstance(self.webhook, EnvironmentVariable):
            name = self.webhook.env
            address = os.environ.get(name, "")
            if not _is_allowed(address):
                problem = "holds no such address" if address else "is not set"
                raise UserError(f"notify.webhook: expected an https address in ${name}, which {problem}")
            return address
        assert self.webhook is not None
        if self.webhook.get_secret_value() == HIDDEN:
            raise UserError("notify.webhook: the address is not recorded with a run. Write it into the file again")
        return self.webhook.get_secret_value()


def require_storable(settings: Notify | None) -> None:
    """Raise an error if the receiver of the messages cannot be stored with a schedule.

    Prefect shows the parameters of a schedule, so they must not hold the address of a webhook.

    Args:
        settings: The settings of the messages. `None` if no messages are sent.

    Raises:
        UsageError: The settings hold the address of a webhook.
    """
    if settings and isinstance(settings.webhook, SecretStr):
        raise UsageError(
            "notify.webhook: a schedule cannot hold an address, because Prefect would show the address. Allowed: "
            "{env: NAME}, the name of an environment variable of kd up, or notify.block"
        )


def _show(text: str) -> str:
    """Return `text` in quotes for an error message. If it may be the address of a webhook, return a hint instead."""
    return "an address, which is not shown because it may be a secret" if "//" in text else show(text)


def _is_allowed(address: str) -> bool:
    """Return whether a message may be sent to an address: by https, or by http to this machine."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        if not address.isprintable() or " " in address or not host or parts.port == 0:
            return False
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    """Return whether a host is this machine.

    >>> _is_loopback("localhost"), _is_loopback("127.0.0.1"), _is_loopback("::1"), _is_loopback("10.0.0.1")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
