"""Where a store or a release lies: a folder, a bucket (s3, gs, az) or a web server, all read through one door."""
