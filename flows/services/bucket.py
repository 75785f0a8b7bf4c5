"""Commands for the bucket of the team stack: `python -m flows.services.bucket create | save | load`.

`create` creates the bucket. `save` writes a tar file with all objects to standard output. `load` reads such a tar file
from standard input, and writes its objects to the bucket. The commands read the environment variables of MLflow's
server.
"""

import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from kdmodels.errors import UnavailableError, UserError, redacted


def create() -> None:
    """Create the bucket, and check that an object can be written and read. If the bucket exists, keep it."""
    client, bucket = _client()
    if bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="kdflow-check", Body=b"ok")
    client.get_object(Bucket=bucket, Key="kdflow-check")["Body"].read()
    client.delete_object(Bucket=bucket, Key="kdflow-check")


def save() -> None:
    """Write a tar file with all objects of the bucket to standard output."""
    client, bucket = _client()
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for listed in page.get("Contents", []):
                entry = tarfile.TarInfo(listed["Key"])
                entry.size = listed["Size"]
                archive.addfile(entry, client.get_object(Bucket=bucket, Key=listed["Key"])["Body"])


def load() -> None:
    """Write the objects of a tar file, read from standard input, to the bucket. Create the bucket if necessary."""
    create()
    client, bucket = _client()
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for entry in archive:
            if content := archive.extractfile(entry):
                with tempfile.TemporaryFile() as file:  # boto3 cannot read from a stream
                    shutil.copyfileobj(content, file)
                    file.seek(0)
                    client.upload_fileobj(file, bucket, entry.name)


ACTIONS: dict[str, Callable[[], None]] = {"create": create, "save": save, "load": load}


def _client() -> tuple[Any, str]:
    """Return a client of the object store, and the name of the bucket."""
    bucket = urlsplit(os.environ["KD_BUCKET"]).netloc
    return boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"]), bucket


def main(action: str) -> None:
    """Carry out one of the actions.

    Raises:
        UserError: The action is unknown, or the store cannot be used.
    """
    if action not in ACTIONS:
        raise UserError(f"action: expected one of {', '.join(ACTIONS)}, got {action!r}")
    try:
        ACTIONS[action]()
    except (BotoCoreError, ClientError) as error:
        address = os.environ["MLFLOW_S3_ENDPOINT_URL"]
        raise UnavailableError(f"bucket {os.environ['KD_BUCKET']} at {address} can't be used: {error}") from error


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2] or [""])
    except UserError as error:
        sys.exit(f"kdflow: error: {redacted(str(error))}")
