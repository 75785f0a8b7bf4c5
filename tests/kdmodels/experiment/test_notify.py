"""`notify:` of an experiment file: what is allowed, and that the address of a webhook is never shown."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.experiment.notify import HIDDEN, Notify
from kdmodels.experiment.schema import explain
from tests.conftest import SMALL

SECRET = "https://hooks.example/services/T0/B0/topsecret"


def notify(**fields: Any) -> Notify:
    return Notify.model_validate({"on": ["failed"], **fields})


def mistakes(raw: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as error:
        Experiment.model_validate(SMALL | {"notify": raw})
    explained = [explain(detail, Experiment) for detail in error.value.errors()]
    return [(".".join(map(str, path)), message) for path, message in explained]


@pytest.mark.parametrize(
    "address",
    [SECRET, "https://10.0.0.1:8065/hooks/x", "http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:9/x"],
)
def test_https_and_this_machine_are_allowed(address: str) -> None:
    assert notify(webhook=address).address == address


@pytest.mark.parametrize(
    "webhook",
    [
        "http://hooks.example/topsecret", "http://127.0.0.1.hooks.example/topsecret", "http://10.0.0.1/topsecret",
        "ftp://hooks.example/topsecret", "https:///topsecret", "https://hooks.example:99999/topsecret", "topsecret", "",
        "https://hooks.example/top secret", "https://hooks.example/\ntopsecret", "https://[topsecret", "file:///topsecret",
        ["topsecret"], 5, {"env": "A", "topsecret": 1}, {"url": "topsecret"},
    ],
)  # fmt: skip
def test_other_webhooks_are_refused_and_not_shown(webhook: object) -> None:
    ((path, message),) = mistakes({"on": ["failed"], "webhook": webhook})
    assert (path, message[:51]) == ("notify.webhook", "expected an https address, an http address of this ")
    assert "topsecret" not in message


@pytest.mark.parametrize(
    ("raw", "path", "message"),
    [
        ("https://hooks.example/topsecret", "notify", "expected a mapping such as {on: [promoted, failed], "),
        ({"on": ["failed"]}, "notify.webhook", "expected one of notify.webhook and notify.block"),
        ({"on": ["failed"], "webhook": SECRET, "block": "a/b"}, "notify.webhook", "expected one of notify.webhook "),
        ({"on": [], "block": "a/b"}, "notify.on", "expected a list that is not empty, got []"),
        ({"on": ["fail"], "block": "a/b"}, "notify.on.0", "unknown value 'fail'. Did you mean 'failed'? Allowed: "),
        ({"on": ["failed"], "block": "my-block"}, "notify.block", "expected a block such as slack-webhook/my-block"),
        ({"on": ["failed"], "block": SECRET}, "notify.block", "expected a block such as slack-webhook/my-block"),
        ({"on": ["failed"], "webhook": {"env": "A B"}}, "notify.webhook.env", "expected the name of an environment "),
        ({"on": ["failed"], "webhook": {"env": SECRET}}, "notify.webhook.env", "expected the name of an environment"),
        ({"on": ["failed"], "webhok": SECRET}, "notify.webhok", "unknown field. Did you mean 'webhook'? Allowed: "),
    ],
)
def test_a_mistake_names_the_field_and_what_is_allowed(raw: object, path: str, message: str) -> None:
    found = dict(mistakes(raw))
    assert found[path].startswith(message), found
    assert "topsecret" not in str(found)


def test_the_address_is_in_no_form_of_an_experiment() -> None:
    experiment = Experiment.model_validate(SMALL | {"notify": {"on": ["failed"], "webhook": SECRET}})
    document = experiment.model_dump_json()
    assert "topsecret" not in document + repr(experiment) + str(experiment.model_dump())
    recorded = Experiment.model_validate(json.loads(document))
    assert json.loads(document)["notify"] == {"on": ["failed"], "webhook": HIDDEN, "block": None}
    assert recorded.notify is not None
    with pytest.raises(UserError, match=r"^notify\.webhook: the address is not recorded with a run\. "):
        recorded.notify.address  # noqa: B018
    kept = experiment.only(["kd"]).notify  # a part of the variants
    assert kept is not None
    assert kept.address == SECRET


def test_an_environment_variable_holds_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Notify.model_validate(json.loads(notify(webhook={"env": "MY_HOOK"}).model_dump_json()))
    monkeypatch.delenv("MY_HOOK", raising=False)
    with pytest.raises(UserError, match=r"^notify\.webhook: expected an https address in \$MY_HOOK, which is not set$"):
        settings.address  # noqa: B018
    monkeypatch.setenv("MY_HOOK", "http://hooks.example/topsecret")
    with pytest.raises(UserError, match=r"in \$MY_HOOK, which holds no such address$"):
        settings.address  # noqa: B018
    monkeypatch.setenv("MY_HOOK", SECRET)
    assert settings.address == SECRET
