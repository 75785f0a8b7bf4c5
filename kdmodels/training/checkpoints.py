"""Checkpoints. A checkpoint holds all state that training steps change. It is written completely or not at all."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kdmodels.files.atomic import write_whole
from kdmodels.files.folders import private_folder
from kdmodels.training.replica import Replica, State

KEPT = 2  # number of checkpoints that are kept; if the newest is damaged, the training resumes from the one before
DAMAGED = ".damaged"


class _Row(BaseModel):
    """The fields of a replica that are not tensors. A replica is a network trained with one seed."""

    seed: int
    history: list[dict[str, float]]
    epoch: int
    diverged: int | None
    culprits: list[str]


class _Facts(BaseModel):
    """Content of a checkpoint's JSON file, which is written last. A checkpoint without this file is ignored."""

    model_config = ConfigDict(extra="forbid")

    spec: str
    epoch: PositiveInt
    seconds: float
    sha256: str
    replicas: list[_Row]


@dataclass(frozen=True)
class Snapshot:
    """State of a training run at the end of an epoch.

    Attributes:
        epoch: Number of the epoch, counted from 1.
        seconds: Duration of the training so far, in seconds.
        replicas: The replicas at this epoch.
        stacks: Tensors of each stack. A stack holds the replicas that are trained together.
    """

    epoch: int
    seconds: float
    replicas: list[Replica]
    stacks: list[State]


class Checkpoints:
    """Checkpoints of one training run, in a separate folder.

    Args:
        folder: Folder that contains only the checkpoints of this run.
        spec: Identifier of the run. If a checkpoint in the folder has another identifier, it is renamed and not used.
        every: Minimum number of seconds between two written checkpoints.
        warn: Function that receives a message for each checkpoint that can't be read or written.
        on_written: Function that is called with the JSON file of the newest checkpoint after each write, and again when
            the training is interrupted. The second argument is whether the training is interrupted.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self,
        folder: Path,
        spec: str,
        *,
        every: float,
        warn: Callable[[str], None],
        on_written: Callable[[Path, bool], None] = lambda path, is_interrupted: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._spec, self._every, self._warn, self._clock = folder, spec, every, warn, clock
        self._on_written = on_written
        self._newest: Path | None = None
        self._began = self._written = clock()
        self._unwritten: tuple[int, float, list[Replica], State] | None = None
        self.seconds = 0.0
        """Training time before the checkpoint that `latest` returned, in seconds. 0 if there was no checkpoint."""

    def latest(self) -> Snapshot | None:
        """Return the newest readable checkpoint of this run, or `None` if no checkpoint can be read.

        Unreadable checkpoints, and checkpoints of other runs, are renamed with a warning.
        """
        for path in sorted(self._folder.glob("epoch-*.json"), reverse=True):
            try:
                facts, tensors = self._read(path)
                snapshot = _snapshot(facts, tensors)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                self._warn(f"{path}: set aside, because it can't be read: {' '.join(str(error).split())}")
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
            raise ValueError("it belongs to another training")
        file = path.with_suffix(".safetensors")
        if _sha256(file) != facts.sha256:
            raise ValueError("its checksum is wrong")
        return facts, load_file(file)

    def keep(self, epoch: int, replicas: Sequence[Replica], stacks: Sequence[State]) -> None:
        """Hold the checkpoint of an epoch in memory. Write it if `every` seconds have passed since the last write.

        Args:
            epoch: Number of the epoch, counted from 1.
            replicas: The replicas at this epoch.
            stacks: Copies of each stack's tensors. Later steps do not change the copies.
        """
        parts = {f"stack/{number}": state for number, state in enumerate(stacks)}
        for number, replica in enumerate(replicas):
            parts |= {f"replica/{number}/state": replica.state, f"replica/{number}/own": replica.own}
            parts[f"replica/{number}"] = {"right": replica.is_correct}
        tensors = {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        rows = [replace(replica, history=list(replica.history)) for replica in replicas]
        self._unwritten = epoch, self.seconds + self._clock() - self._began, rows, tensors
        if self._clock() - self._written >= self._every:
            self.flush()

    def flush(self, *, is_interrupted: bool = False) -> None:
        """Write the checkpoint that is held in memory, if any. Then delete all but the newest `KEPT` checkpoints.

        Args:
            is_interrupted: Whether the training is interrupted, so that this checkpoint is the last.
        """
        if self._unwritten is not None:
            self._write(*self._unwritten)
        if self._newest:
            self._on_written(self._newest, is_interrupted)

    def _write(self, epoch: int, seconds: float, replicas: list[Replica], tensors: State) -> None:
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
            self._newest = path.with_suffix(".json")
        except (OSError, SafetensorError) as error:  # training continues without this checkpoint
            self._warn(f"{self._folder}: a checkpoint can't be written: {error}")
        self._unwritten, self._written = None, self._clock()  # last, so that an interrupted write is repeated


def _snapshot(facts: _Facts, tensors: State) -> Snapshot:
    parts: dict[str, dict[str, State]] = {"stack": {}, "replica": {}}
    for name, tensor in tensors.items():
        part, index, rest = name.split("/", 2)
        parts[part].setdefault(index, {})[rest] = tensor
    replicas = []
    for number, row in enumerate(facts.replicas):
        stored = parts["replica"][str(number)]
        state, own = (
            {name.removeprefix(part): tensor for name, tensor in stored.items() if name.startswith(part)}
            for part in ("state/", "own/")
        )
        is_correct = stored["right"]
        replicas.append(Replica(row.seed, row.history, state, own, row.epoch, row.diverged, row.culprits, is_correct))
    stacks = [state for _, state in sorted(parts["stack"].items(), key=lambda item: int(item[0]))]
    return Snapshot(facts.epoch, facts.seconds, replicas, stacks)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
