"""Parts of large objects that an interrupted publishing left in a bucket: seen by nobody, paid for by the bucket's
owner. obstore cannot list them; botocore, the extra s3, can. API: Amazon S3, ListMultipartUploads and
AbortMultipartUpload."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from sar1m.io.net.transport import silence_loggers

_REMEDY: Final = (
    "They are invisible and cost room: give the bucket a lifecycle rule that aborts uploads in parts after a day."
)


def abort_uploads(location: str, names: Collection[str]) -> str:
    """Aborts every upload under way to s3://bucket/prefix/name of one of names, which must all be there whole.

    Returns what a user should know, empty where there is nothing: a release that is whole never fails for this. Keys
    and endpoint come from the environment, as in remote.connect.
    """
    try:
        from botocore.config import Config  # noqa: PLC0415 - an extra
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        from botocore.session import get_session  # noqa: PLC0415
    except ModuleNotFoundError:
        return f"{location}: parts of interrupted uploads were not looked for: pip install 'sar1m[s3]'. {_REMEDY}"
    silence_loggers()  # botocore would log what it signs
    environment = os.environ
    bucket, prefix = urlsplit(location).netloc, urlsplit(location).path.strip("/")
    wanted = {f"{prefix}/{name}" for name in names}
    try:
        client = get_session().create_client(
            "s3",
            endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None,
            region_name=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}, connect_timeout=20),
        )
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        for upload in [one for page in pages for one in page.get("Uploads", ()) if one["Key"] in wanted]:
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except (BotoCoreError, ClientError) as error:  # their words may hold keys
        return f"{location}: parts of interrupted uploads were not removed ({type(error).__name__}). {_REMEDY}"
    return ""
