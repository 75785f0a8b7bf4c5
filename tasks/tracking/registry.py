"""The model registry: versions, the aliases `champion` and `previous`, and the words that users call them by."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.looks import Look, ledger_of, read_ledgers
from tasks.tracking.contents import model_id
from tasks.tracking.lookup import get

CHAMPION = "champion"
PREVIOUS = "previous"
ROLLED_BACK = "kd.rolled_back"


@dataclass(frozen=True)
class Version:
    """One version of a registered model; `uri` is its `models:/name/number`."""

    model: str
    version: int
    run_id: str | None
    aliases: tuple[str, ...]
    tags: dict[str, str]
    uri: str


def versions(model: str) -> list[Version]:
    """All versions of that model, newest first.

    Raises:
        UserError: no such model.
    """
    registered = _registered(model)
    found = MlflowClient().search_model_versions(f"name = '{model}'", max_results=10_000)
    return sorted((_read(entity, registered) for entity in found), key=lambda version: -version.version)


def champion(model: str) -> Version | None:
    """The version with the alias `champion`; None when there is none, or no such model."""
    return _aliased(model, CHAMPION)


def register(model: str, run_id: str, *, tags: Mapping[str, Any], description: str) -> Version:
    """The version of that model made from the run's logged model: made now, or there already and updated.

    Raises:
        UserError: the run has no model, or the name is not one that MLflow allows.
    """
    if not re.fullmatch(r"[^/:@'\"`\x00-\x1f]{1,250}", model) or not model.strip(" ."):
        raise UserError(f"model name {model!r}: allowed are 1 to 250 characters without / : @ and quotes")
    client = MlflowClient()
    made_of = model_id(run_id)
    if made_of is None:
        raise UserError(f"run {run_id!r} has no model to register")
    texts = {tag: str(value) for tag, value in tags.items()}
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name = '{model}'", max_results=10_000)
    made = [_read(each, _registered(model)) for each in found if each.source == f"models:/{made_of}"]
    if made:
        version = made[0]
        client.update_model_version(model, str(version.version), description)
        stale = {tag for tag in version.tags if tag.startswith("kd.") and tag not in texts} - {ROLLED_BACK}
        for tag in stale:  # of an earlier verdict
            client.delete_model_version_tag(model, str(version.version), tag)
        for tag, text in texts.items():
            if version.tags.get(tag) != text:
                client.set_model_version_tag(model, str(version.version), tag, text)
        kept = {tag: text for tag, text in version.tags.items() if tag not in stale}
        return replace(version, tags=kept | texts)
    entity = client.create_model_version(
        model, f"models:/{made_of}", run_id=run_id, tags=texts, description=description, model_id=made_of
    )
    links = json.loads(client.get_logged_model(made_of).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    links.append({"name": model, "version": entity.version})  # the UI's link from the logged model to its versions
    client.set_logged_model_tags(made_of, {MLFLOW_MODEL_VERSIONS: json.dumps(links)})
    return _read(entity, client.get_registered_model(model))


def register_again(champion: Version) -> Version:
    """Make a new version of the champion's run, for the run has a model of another format now, and the champion of it.

    The tags stay, and so does the alias `previous`, for the weights are the same.
    """
    assert champion.run_id is not None
    told = f"Version {champion.version} again, as ONNX."
    return _enthrone(register(champion.model, champion.run_id, tags=champion.tags, description=told))


def crown(version: Version) -> Version:
    """Make that version the champion, and the one that was it `previous`; doing it twice changes nothing more."""
    client = MlflowClient()
    old = champion(version.model)
    if old is not None and old.version != version.version:
        client.set_registered_model_alias(version.model, PREVIOUS, str(old.version))
    return _enthrone(version)


def rollback(model: str, to: int | None = None) -> Version:
    """Make the `previous` champion, or version `to`, the champion, and return it.

    The old one is `previous` then, and its version is tagged `kd.rolled_back`.

    Raises:
        UserError: no such model or version, no other to go back to, or it is the champion.
    """
    _registered(model)
    old, back = champion(model), _aliased(model, PREVIOUS) if to is None else find_model(f"{model}/{to}")
    if back is None or old is None:
        raise UserError(f"model {model!r} has no previous champion to go back to")
    if back.version == old.version:
        more = "" if to else "; to another one: --to VERSION"
        raise UserError(f"model {model!r}: version {back.version} is the champion{more}")
    client = MlflowClient()
    client.set_model_version_tag(model, str(old.version), ROLLED_BACK, "true")
    _enthrone(back)  # before `previous` is changed: interrupted until then, it can be asked for again
    client.set_registered_model_alias(model, PREVIOUS, str(old.version))
    return find_model(back.uri)


def _enthrone(version: Version) -> Version:
    client = MlflowClient()
    if ROLLED_BACK in version.tags:
        client.delete_model_version_tag(version.model, str(version.version), ROLLED_BACK)
    client.set_registered_model_alias(version.model, CHAMPION, str(version.version))
    return find_model(version.uri)


def is_rolled_back(model: str, run_id: str) -> bool:
    """Whether what that run made, by its content key, was the champion until somebody rolled it back."""
    if _find_registered(model) is None:
        return False
    withdrawn = [version.run_id for version in versions(model) if ROLLED_BACK in version.tags and version.run_id]
    return bool(withdrawn) and get(run_id).key in {_key(each) for each in withdrawn} - {None}


def _key(run_id: str) -> str | None:
    try:
        return get(run_id).key
    except UserError:  # deleted since then: nobody can know any more what it made
        return None


def take_look(model: str, pair: str, *, digest: str, sketch: tuple[int, ...], looks: int) -> Look:
    """Return the look of that pair at the test split; a new pair takes the next one, which is recorded.

    Args:
        pair: who is compared with whom. digest, sketch: of the test split. looks: as many are declared for a new split.
    Raises:
        UserError: no such model.
    """
    tags = dict(_registered(model).tags)
    look, ledger = ledger_of(read_ledgers(tags), digest, sketch, looks).look(pair)
    for tag, text in ledger.tags().items():
        if tags.get(tag) != text:
            MlflowClient().set_registered_model_tag(model, tag, text)
    return look


def find_model(word: str) -> Version:
    """The version that a user means: `name` (its champion), `name@alias`, `name/3`, each also after `models:/`.

    Raises:
        UserError: no such model (with the nearest names), alias or version (with those that there are).
    """
    match = re.fullmatch(r"(?:models:/)?(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[0-9]{1,18}))?", word)
    if match is None:
        raise UsageError(f"model {word!r}: allowed are name, name@alias, name/3, or these after models:/")
    name, alias, number = match["name"], match["alias"] or CHAMPION, match["number"]
    if number is None:
        registered = _registered(name)
        if alias not in registered.aliases:
            there = ", ".join(sorted(registered.aliases)) or "none"
            raise UsageError(f"model {name!r} has no alias {alias!r}; it has: {there}")
        number = str(registered.aliases[alias])
    numbered = {version.version: version for version in versions(name)}
    if int(number) not in numbered:
        raise UsageError(
            f"model {name!r} has no version {number}; it has: {', '.join(map(str, sorted(numbered))) or 'none'}"
        )
    return numbered[int(number)]


def _aliased(model: str, alias: str) -> Version | None:
    registered = _find_registered(model)
    number = registered.aliases.get(alias) if registered else None
    if registered is None or number is None:
        return None
    return _read(MlflowClient().get_model_version(model, number), registered)


def _registered(model: str) -> RegisteredModel:
    registered = _find_registered(model)
    if registered is None:
        names = [registered.name for registered in MlflowClient().search_registered_models()]
        raise UsageError(f"model {model!r} is not in the registry; {allowed(model, names)}")
    return registered


def _find_registered(model: str) -> RegisteredModel | None:
    try:
        return MlflowClient().get_registered_model(model)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the second: not even a name
            return None
        raise


def _read(entity: ModelVersion, registered: RegisteredModel) -> Version:
    """Aliases are read from the model, for searches leave them out."""
    number = int(entity.version)
    return Version(
        model=entity.name,
        version=number,
        run_id=entity.run_id or None,
        aliases=tuple(sorted(alias for alias, of in registered.aliases.items() if int(of) == number)),
        tags=dict(entity.tags),
        uri=f"models:/{entity.name}/{number}",
    )
