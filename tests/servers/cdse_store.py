"""The object store of the Data Space: ListObjectsV2 and GET of signed requests, everything else refused.

The signature is recomputed here from the specification (AWS Signature Version 4, "Create a signed request") with the
standard library alone, so that a client that signs wrongly, or with another secret, is found out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from xml.sax.saxutils import escape

from servers.base import Asked, Reply, file_reply

S3_ACCESS, S3_SECRET = "CANARYACCESS91", "canary-s3-secret-92"
BUCKET, REGION = "eodata", "default"
_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<access>[^/]+)/(?P<scope>(?P<day>\d{8})/(?P<region>[^/]+)/s3/aws4_request), ?"
    r"SignedHeaders=(?P<signed>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass
class ObjectStore:
    """objects: bytes by key. etags: of keys whose ETag is not the MD5, as of objects that came in parts. skew: how far
    this clock is ahead. refused: why requests were."""

    objects: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    secret: str = S3_SECRET
    skew: timedelta = timedelta()
    refused: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Reply:
        problem = self._problem(asked)
        if problem:
            self.refused.append(problem)
            return error(403, problem, asked.headers.get("authorization", "anonymous"))
        if asked.path.rstrip("/") == f"/{BUCKET}":
            return self.listing(asked)
        key = asked.path.removeprefix(f"/{BUCKET}/")
        if key not in self.objects:
            return error(404, "NoSuchKey", key)
        return file_reply(asked, self.objects[key], etag=f'"{self.etag(key)}"')

    def etag(self, key: str) -> str:
        md5 = hashlib.md5(self.objects[key]).hexdigest()  # noqa: S324 - what object stores state
        return self.etags.get(key, md5)

    def listing(self, asked: Asked) -> Reply:
        prefix, most = asked.query["prefix"][0], int(asked.query.get("max-keys", ["1000"])[0])
        assert asked.query["list-type"] == ["2"]
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-06-07T04:45:09.000Z</LastModified>"
            f"<ETag>&quot;{self.etag(key)}&quot;</ETag><Size>{len(self.objects[key])}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys[:most]
        )
        cut = str(len(keys) > most).lower()
        text = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys[:most])}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><IsTruncated>{cut}</IsTruncated>{rows}</ListBucketResult>"
        )
        return Reply(body=text.encode(), content_type="application/xml")

    def _problem(self, asked: Asked) -> str:
        """Why a request is refused, in the words of S3; empty where it is not."""
        told = _CREDENTIAL.fullmatch(asked.headers.get("authorization", ""))
        if asked.method not in ("GET", "HEAD") or told is None:
            return "AccessDenied"
        if told["access"] != S3_ACCESS or told["region"] != REGION:
            return "InvalidAccessKeyId"
        stamp = asked.headers["x-amz-date"]
        sent = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) + self.skew - sent) > timedelta(minutes=15) or stamp[:8] != told["day"]:
            return "RequestTimeTooSkewed"
        if not {"host", "x-amz-date", "x-amz-content-sha256"} <= set(told["signed"].split(";")):
            return "AccessDenied"
        expected = signature(asked, told, self.secret)
        return "" if hmac.compare_digest(expected, told["signature"]) else "SignatureDoesNotMatch"


def signature(asked: Asked, told: re.Match, secret: str) -> str:
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, values in asked.query.items() for v in values)
    names = told["signed"].split(";")
    request = "\n".join(
        [
            asked.method,
            asked.path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(asked.headers[name].split())}" for name in names),
            "",
            ";".join(names),
            asked.headers["x-amz-content-sha256"],
        ]
    )
    hashed = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", asked.headers["x-amz-date"], told["scope"], hashed])
    key = f"AWS4{secret}".encode()
    for part in told["scope"].split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def error(status: int, code: str, told: str) -> Reply:
    """As S3 says it: what was sent comes back."""
    text = f"<Error><Code>{code}</Code><Message>You sent {escape(told)}</Message></Error>"
    return Reply(status=status, body=text.encode(), content_type="application/xml")
