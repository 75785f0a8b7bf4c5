"""Checkpoints: all that a training's steps change, on disk whole or not at all."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kdmodels.durable import write_whole
from kdmodels.folders import private_folder
from kdmodels.training.replica import Replica, State

KEPT = 2  # the newest, and the one before it should that be damaged
DAMAGED = ".damaged"


class _Row(BaseModel):
    """A replica but for its tensors."""

    seed: int
    history: list[dict[str, float]]
    epoch: int
    diverged: int | None
    culprits: list[str]


class _Facts(BaseModel):
    """What stands beside a checkpoint's tensors, and is written after them: without it there is no checkpoint."""

    model_config = ConfigDict(extra="forbid")

    spec: str
    epoch: PositiveInt
    seconds: float
    sha256: str
    replicas: list[_Row]


@dataclass(frozen=True)
class Snapshot:
    """A training at the end of an epoch: `stacks` holds each stack's tensors, `seconds` what it had taken."""

    epoch: int
    seconds: float
    replicas: list[Replica]
    stacks: list[State]


class Checkpoints:
    """The checkpoints of one training, in a folder of its own.

    Args:
        spec: what determines the training; a checkpoint of another is not read.
        every: the seconds that lie between two at least. warn: told of each that is damaged or can't be written.
    """

    def __init__(
        self,
        folder: Path,
        spec: str,
        *,
        every: float,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._spec, self._every, self._warn, self._clock = folder, spec, every, warn, clock
        self._began = self._written = clock()
        self._unwritten: tuple[int, float, list[Replica], State] | None = None
        self.seconds = 0.0
        """What the training had taken at the checkpoint that was read; 0 where none was."""

    def latest(self) -> Snapshot | None:
        """The newest that is whole and of this training; those that are not are set aside with a warning."""
        for path in sorted(self._folder.glob("epoch-*.json"), reverse=True):
            try:
                facts, tensors = self._read(path)
                snapshot = _snapshot(facts, tensors)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                self._warn(f"{path}: is set aside, it can't be read: {' '.join(str(error).split())}")
                for file in (path, path.with_suffix(".safetensors")):
                    if file.exists():
                        file.rename(file.with_name(file.name + DAMAGED))
                continue
            self.seconds = facts.seconds
            return snapshot
        return None

    def _read(self, path: Path) -> tuple[_Facts, State]:
        facts = _Facts.model_validate(json.loads(path.read_bytes()))
        if facts.spec != self._spec:
            raise ValueError("it is of another training")
        file = path.with_suffix(".safetensors")
        if _sha256(file) != facts.sha256:
            raise ValueError("its checksum is wrong")
        return facts, load_file(file)

    def keep(self, epoch: int, replicas: Sequence[Replica], stacks: Sequence[State]) -> None:
        """After an epoch: written, or remembered where the last that was written is not yet so old.

        Args:
            stacks: copies, which nothing changes any more.
        """
        parts = {f"stack/{number}": own for number, own in enumerate(stacks)}
        for number, replica in enumerate(replicas):
            parts |= {f"replica/{number}/state": replica.state, f"replica/{number}/own": replica.own}
            parts[f"replica/{number}"] = {"right": replica.right}
        tensors = {f"{part}/{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
        rows = [replace(replica, history=list(replica.history)) for replica in replicas]
        self._unwritten = epoch, self.seconds + self._clock() - self._began, rows, tensors
        if self._clock() - self._written >= self._every:
            self.flush()

    def flush(self) -> None:
        """Write what is remembered, if anything; those before the last two go."""
        if self._unwritten is None:
            return
        epoch, seconds, replicas, tensors = self._unwritten
        try:
            private_folder(self._folder)
            path = self._folder / f"epoch-{epoch:06}"
            file = write_whole(path.with_suffix(".safetensors"), lambda partial: save_file(tensors, partial))
            rows = [_Row(**{name: getattr(replica, name) for name in _Row.model_fields}) for replica in replicas]
            facts = _Facts(spec=self._spec, epoch=epoch, seconds=seconds, sha256=_sha256(file), replicas=rows)
            write_whole(path.with_suffix(".json"), lambda partial: partial.write_text(json.dumps(facts.model_dump())))
            for old in sorted(self._folder.glob("epoch-*.json"))[:-KEPT]:
                old.unlink()
                old.with_suffix(".safetensors").unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:  # the training itself is sound, and need not end for this
            self._warn(f"{self._folder}: a checkpoint can't be written: {error}")
        self._unwritten, self._written = None, self._clock()  # not before: what interrupts it has it written again


def _snapshot(facts: _Facts, tensors: State) -> Snapshot:
    parts: dict[str, dict[str, State]] = {"stack": {}, "replica": {}}
    for name, tensor in tensors.items():
        what, index, rest = name.split("/", 2)
        parts[what].setdefault(index, {})[rest] = tensor
    replicas = []
    for number, row in enumerate(facts.replicas):
        own = parts["replica"][str(number)]
        state, beside = (
            {name.removeprefix(part): tensor for name, tensor in own.items() if name.startswith(part)}
            for part in ("state/", "own/")
        )
        right = own["right"]
        replicas.append(Replica(row.seed, row.history, state, beside, row.epoch, row.diverged, row.culprits, right))
    stacks = [own for _, own in sorted(parts["stack"].items(), key=lambda item: int(item[0]))]
    return Snapshot(facts.epoch, facts.seconds, replicas, stacks)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
