"""A worker of its own process for the tests of io/net: python net_process.py <json>. Prints one JSON line."""

import json
import sys
import threading
from collections import Counter
from pathlib import Path

from sar1m.config import DownloadConfig
from sar1m.io.net.fetch import Fetcher, FetchSettings
from sar1m.store.errors import Sar1mError


def main():
    job = json.loads(sys.argv[1])
    settings = FetchSettings(
        Path(job["root"]), DownloadConfig(**job["limits"]), allow_loopback=True, first_delay_s=0.02
    )
    fetcher, happened, counting = Fetcher(settings), Counter(), threading.Lock()

    def count(what):
        with counting:
            happened[what] += 1

    def work():
        for _ in range(job.get("times", 1)):
            try:
                if job["what"] == "request":
                    fetcher.request("GET", job["url"], cost=job.get("cost", 0.0))
                elif job["what"] == "download":
                    fetcher.download(job["url"], name="item.bin", size=job["size"], checksum=job["checksum"])
                else:
                    fetcher.ranged(job["url"]).readall()
                count("done")
            except Sar1mError as error:
                count(type(error).__name__)

    threads = [threading.Thread(target=work) for _ in range(job.get("threads", 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(happened))


if __name__ == "__main__":
    main()
