"""Upload a folder as a careful script would: python boto3_upload.py URL BUCKET FOLDER PREFIX WORKERS keep|delete

Run by the benchmark with a Python that has boto3: s3transfer's TransferManager, as `upload_file` uses it, one
client and one manager for all files. A file is deleted when its upload is known to have succeeded.
"""

from __future__ import annotations

import os
import sys

import boto3
from botocore.config import Config
from s3transfer.manager import TransferConfig, TransferManager


def main() -> None:
    url, bucket, folder, prefix, workers, after = sys.argv[1:]
    client = boto3.client("s3", endpoint_url=url, config=Config(max_pool_connections=int(workers)))
    with TransferManager(client, TransferConfig(max_request_concurrency=int(workers))) as manager:
        uploads = [
            (entry.path, manager.upload(entry.path, bucket, f"{prefix}/{entry.name}"))
            for entry in os.scandir(folder)
        ]
        for path, upload in uploads:
            upload.result()
            if after == "delete":
                os.unlink(path)


if __name__ == "__main__":
    main()
