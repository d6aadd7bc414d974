"""A worker of its own process for the tests of io/net: python net_process.py <json>. Prints one JSON line."""

import json
import sys
import threading
from collections import Counter
from pathlib import Path

from sar1m.config import DownloadConfig
from sar1m.errors import Sar1mError
from sar1m.io.net.fetch import Fetcher, FetchSettings


def main():
    job = json.loads(sys.argv[1])
    settings = FetchSettings(
        Path(job["root"]), DownloadConfig(**job["limits"]), allow_loopback=True, first_delay_s=0.02
    )
    fetcher, happened = Fetcher(settings), Counter()

    def work():
        for _ in range(job.get("times", 1)):
            try:
                if job["what"] == "request":
                    fetcher.request("GET", job["url"], cost=job.get("cost", 0.0))
                elif job["what"] == "download":
                    fetcher.download(job["url"], name="item.bin", size=job["size"], checksum=job["checksum"])
                else:
                    fetcher.ranged(job["url"]).readall()
                happened["done"] += 1
            except Sar1mError as error:
                happened[type(error).__name__] += 1

    threads = [threading.Thread(target=work) for _ in range(job.get("threads", 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(happened))


if __name__ == "__main__":
    main()
