"""Functions for the versions of registered models.

The alias `champion` marks the version of a model that is in use. The alias `previous` marks the version that a rollback
would restore. The tag `kd.replaced` of each former or present champion names the champion before it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.evaluation.looks import Ledger, Look, ledger_of, read_ledgers
from tasks.tracking.contents import model_id
from tasks.tracking.lifecycle import cut
from tasks.tracking.lookup import Run, get
from tasks.tracking.tags import PREFIX, Tag

DESCRIPTION = 5_000  # longest description of a model or version, in characters, that MLflow's databases hold
CHAMPION = "champion"
PREVIOUS = "previous"


@dataclass(frozen=True)
class Version:
    """A version of a registered model. `uri` is `models:/name/number`."""

    model: str
    version: int
    run_id: str | None
    aliases: tuple[str, ...]
    tags: dict[str, str]
    uri: str


def versions(model: str) -> list[Version]:
    """Return all versions of a model, newest first.

    Raises:
        UserError: The model does not exist.
    """
    registered = _registered(model)
    entities = MlflowClient().search_model_versions(f"name = '{model}'", max_results=10_000)
    return sorted((_read(entity, registered) for entity in entities), key=lambda version: -version.version)


def champion(model: str) -> Version | None:
    """Return the version with the alias `champion`. If there is no model or no champion, return None."""
    return aliased(model, CHAMPION)


def require_name(model: str) -> None:
    """Raise a UserError if MLflow does not allow the name of a registered model."""
    if not re.fullmatch(r"[^/:@'\"`\x00-\x1f]{1,250}", model) or not model.strip(" ."):
        raise UserError(f"model name {model!r}: allowed are 1 to 250 characters without / : @ and quotes")


def register(model: str, run_id: str, *, tags: Mapping[str, object], description: str) -> Version:
    """Register the model of a run as a version of a registered model, and return the version.

    If a version with the run's model already exists, update that version. Otherwise create a version.

    Args:
        model: Name of the registered model. If the registered model does not exist, it is created.
        run_id: Id of the run.
        tags: Tags of the version, by name.
        description: Description of the version.

    Raises:
        UserError: The run has no model, or MLflow does not allow the name of the registered model.
    """
    require_name(model)
    client = MlflowClient()
    stored = model_id(run_id)
    if stored is None:
        raise UserError(f"run {run_id!r} has no model to register")
    texts = {tag: str(value) for tag, value in tags.items()}
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    entities = client.search_model_versions(f"name = '{model}'", max_results=10_000)
    existing = [_read(entity, _registered(model)) for entity in entities if entity.source == f"models:/{stored}"]
    if existing:
        version = existing[0]
        client.update_model_version(model, str(version.version), description)
        stale = {tag for tag in version.tags if tag.startswith(PREFIX) and tag not in texts} - {
            Tag.REPLACED,
            Tag.ROLLED_BACK,
        }
        for tag in stale:  # these tags belong to an earlier decision about the version
            client.delete_model_version_tag(model, str(version.version), tag)
        for tag, text in texts.items():
            if version.tags.get(tag) != text:
                client.set_model_version_tag(model, str(version.version), tag, text)
        kept = {tag: text for tag, text in version.tags.items() if tag not in stale}
        return replace(version, tags=kept | texts)
    entity = client.create_model_version(
        model, f"models:/{stored}", run_id=run_id, tags=texts, description=description, model_id=stored
    )
    links = json.loads(client.get_logged_model(stored).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    links.append({"name": model, "version": entity.version})
    # With this tag, the MLflow UI links the logged model to its versions.
    client.set_logged_model_tags(stored, {MLFLOW_MODEL_VERSIONS: json.dumps(links)})
    return _read(entity, client.get_registered_model(model))


def describe_version(version: Version, markdown: str) -> None:
    """Set the description of a version, which the MLflow UI shows as Markdown. Long text is truncated."""
    MlflowClient().update_model_version(version.model, str(version.version), cut(markdown, DESCRIPTION))


def describe_model(model: str, markdown: str) -> None:
    """Set the description of a registered model, unless it has a description."""
    if not _registered(model).description:
        MlflowClient().update_registered_model(model, cut(markdown, DESCRIPTION))


def register_again(champion: Version) -> Version:
    """Register the champion's model again after its conversion to ONNX, and make the new version the champion.

    The new version has the same weights. Therefore, the new version has the tags of the champion, and the alias
    `previous` is not changed.
    """
    assert champion.run_id is not None
    description = f"Version {champion.version} again, as ONNX."
    return _set_champion(register(champion.model, champion.run_id, tags=champion.tags, description=description))


def set_champion(version: Version) -> Version:
    """Give a version the alias `champion`, and give the old champion the alias `previous`.

    A second call changes nothing.
    """
    client = MlflowClient()
    old = champion(version.model)
    if old is not None and old.version != version.version:
        client.set_registered_model_alias(version.model, PREVIOUS, str(old.version))
        client.set_model_version_tag(version.model, str(version.version), Tag.REPLACED, str(old.version))
    return _set_champion(version)


def rollback(model: str, to: int | None = None) -> Version:
    """Make an earlier champion or another version the champion, and return this version.

    The old champion gets the tag `kd.rolled_back`, unless the new champion has this tag, so that an earlier rollback is
    undone. The alias `previous` moves to the version that the next rollback would restore. The arguments and errors are
    those of `rollback_versions`.
    """
    old, back = rollback_versions(model, to)
    client = MlflowClient()
    if Tag.ROLLED_BACK not in back.tags:
        client.set_model_version_tag(model, str(old.version), Tag.ROLLED_BACK, "true")
    before = _before(back)
    if before is not None:
        client.set_registered_model_alias(model, PREVIOUS, str(before.version))
    elif aliased(model, PREVIOUS) is not None:
        client.delete_registered_model_alias(model, PREVIOUS)
    return _set_champion(back)  # last, so that an interrupted rollback can be repeated


def _before(version: Version) -> Version | None:
    """Return the last former champion before `version` that exists and was not rolled back, or `None`."""
    existing = {each.version: each for each in versions(version.model)}
    seen = {version.version}
    number = version.tags.get(Tag.REPLACED)
    while number is not None and int(number) in existing.keys() - seen:
        seen.add(int(number))
        earlier = existing[int(number)]
        if Tag.ROLLED_BACK not in earlier.tags:
            return earlier
        number = earlier.tags.get(Tag.REPLACED)
    return None


def rollback_versions(model: str, to: int | None = None) -> tuple[Version, Version]:
    """Return the champion, and the version that would become the champion after a rollback.

    Args:
        model: Name of the registered model.
        to: Number of the version. Default: the last champion before the present one that was not rolled back.

    Raises:
        UserError: The model or the version does not exist, the model has no champion or no earlier champion, or the
            version is already the champion.
    """
    _registered(model)
    old = champion(model)
    if old is None:
        raise UserError(f"model {model!r} has no champion to go back from")
    back = _before(old) if to is None else find_model(f"{model}/{to}")
    if back is None:
        earlier = ", ".join(str(version.version) for version in versions(model) if version.version != old.version)
        more = f". To choose another version: --to VERSION. It has: {earlier}" if earlier else ""
        raise UserError(f"model {model!r} has no previous champion to go back to{more}")
    if back.version == old.version:
        raise UserError(f"model {model!r}: version {back.version} is the champion")
    return old, back


def _set_champion(version: Version) -> Version:
    client = MlflowClient()
    if Tag.ROLLED_BACK in version.tags:
        client.delete_model_version_tag(version.model, str(version.version), Tag.ROLLED_BACK)
    client.set_registered_model_alias(version.model, CHAMPION, str(version.version))
    return find_model(version.uri)


def is_rolled_back(model: str, run_id: str) -> bool:
    """Return whether a rollback has replaced a champion whose run has the same key as this run.

    The key is a digest of everything that determines the result of a run. Runs with the same key give equal networks.
    """
    return is_marked(model, run_id, Tag.ROLLED_BACK, "true")


def is_marked(model: str, run_id: str, tag: Tag, value: str) -> bool:
    """Return whether some version of the model has this tag and value, and its run has the same key as this run."""
    if _find_registered(model) is None:
        return False
    run_ids = [version.run_id for version in versions(model) if version.tags.get(tag) == value and version.run_id]
    return bool(run_ids) and get(run_id).key in {_key(each) for each in run_ids} - {None}


def _key(run_id: str) -> str | None:
    try:
        return get(run_id).key
    except UserError:  # the run was deleted together with its key
        return None


def take_look(model: str, pair: str, *, digest: str, sketch: tuple[int, ...], looks: int) -> Look:
    """Record a comparison of two models on a test split, and return the comparison's number as a `Look`.

    A comparison of two models on a test split is called a look. If the two models were compared before on this test
    split, return the earlier look. Otherwise, take the next of the planned looks, and record the new look in the tags
    of the registered model.

    Args:
        model: Name of the registered model.
        pair: Short text that identifies the two models.
        digest: Digest of the test split.
        sketch: Short summary of the test split. Test splits that share most of their examples have similar sketches.
        looks: Number of planned looks at the test split. The number is used only if the test split is new.

    Raises:
        UserError: The registered model does not exist.
    """
    tags = dict(_registered(model).tags)
    look, ledger = ledger_of(read_ledgers(tags), digest, sketch, looks).look(pair)
    for tag, text in ledger.tags().items():
        if tags.get(tag) != text:
            MlflowClient().set_registered_model_tag(model, tag, text)
    return look


def ledgers(model: str) -> list[Ledger]:
    """Return, for each test split, the record of a model's looks at the split. See `take_look`.

    Raises:
        UserError: The registered model does not exist.
    """
    return read_ledgers(dict(_registered(model).tags))


def find_model(word: str) -> Version:
    """Return the version that a user specified as `name`, `name@alias` or `name/number`.

    A name without an alias or number selects the champion. The prefix `models:/` is optional.

    Raises:
        UserError: The model, alias or version does not exist. The message lists the existing names.
    """
    match = re.fullmatch(r"(?:models:/)?(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[0-9]{1,18}))?", word)
    if match is None:
        raise UsageError(f"model {word!r}: expected name, name@alias or name/3, with or without models:/ in front")
    name, alias, number = match["name"], match["alias"] or CHAMPION, match["number"]
    if number is None:
        registered = _registered(name)
        if alias not in registered.aliases:
            aliases = ", ".join(sorted(registered.aliases)) or "none"
            raise UsageError(f"model {name!r} has no alias {alias!r}; it has: {aliases}")
        number = str(registered.aliases[alias])
    numbered = {version.version: version for version in versions(name)}
    if int(number) not in numbered:
        raise UsageError(
            f"model {name!r} has no version {number}; it has: {', '.join(map(str, sorted(numbered))) or 'none'}"
        )
    return numbered[int(number)]


def has_model(name: str) -> bool:
    """Return whether a registered model has this name."""
    return _find_registered(name) is not None


def newest_version(model: str) -> Version:
    """Return the newest version of a model.

    Raises:
        UserError: The model does not exist or has no versions.
    """
    existing = versions(model)
    if not existing:
        raise UsageError(f"model {model!r} has no versions")
    return existing[0]


def run_of_version(version: Version) -> Run:
    """Return the run that made the model of a version.

    Raises:
        UserError: kdflow did not make the model, or the run was deleted.
    """
    if version.run_id is None:
        raise UserError(f"model {version.uri!r} was not made by kdflow; allowed: a model of a kd run")
    return get(version.run_id)


def aliased(model: str, alias: str) -> Version | None:
    """Return the version with this alias. If there is no model or no such version, return None."""
    registered = _find_registered(model)
    number = registered.aliases.get(alias) if registered else None
    if registered is None or number is None:
        return None
    return _read(MlflowClient().get_model_version(model, number), registered)


def _registered(model: str) -> RegisteredModel:
    registered = _find_registered(model)
    if registered is None:
        names = [registered.name for registered in MlflowClient().search_registered_models()]
        raise UsageError(f"model {model!r} is not in the registry. {allowed(model, names)}")
    return registered


def _find_registered(model: str) -> RegisteredModel | None:
    try:
        return MlflowClient().get_registered_model(model)
    except MlflowException as error:
        if error.error_code in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):  # the second code: the text is not a valid name
            return None
        raise


def _read(entity: ModelVersion, registered: RegisteredModel) -> Version:
    """Convert MLflow's model version to a `Version`.

    The aliases are read from the registered model, because MLflow's searches for versions leave out the aliases.
    """
    number = int(entity.version)
    return Version(
        model=entity.name,
        version=number,
        run_id=entity.run_id or None,
        aliases=tuple(sorted(alias for alias, of in registered.aliases.items() if int(of) == number)),
        tags=dict(entity.tags),
        uri=f"models:/{entity.name}/{number}",
    )
