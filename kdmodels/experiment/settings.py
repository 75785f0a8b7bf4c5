"""The fields that all experiment files have, whether they compare students or train a generator."""

from typing import Literal

from pydantic import Field

from kdmodels.experiment.data import Data
from kdmodels.experiment.schema import NAME, Part

STUDENT = "-student"  # default suffix of the name under which an experiment registers its best student
LONGEST_NAME = 100 - len(STUDENT)


class Settings(Part):
    """The settings that every experiment has: name, seed, threads, device and data."""

    name: str = Field(pattern=NAME, max_length=LONGEST_NAME, description="Name of the MLflow experiment.")
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="Seed of replica 0. The seed of replica i is `seed` + i."
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="Number of threads that train one student. Default: all cores."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description="Device on which networks are trained. auto: the first available of cuda, mps and cpu.",
    )
    data: Data
