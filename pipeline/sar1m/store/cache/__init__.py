"""The disk cache of remote stores: bounded, shared by processes.

How it is built, and why:

- A store is known by its location and completion marker, so two versions of a store never mix.
  The marker also gives every file's size: no request is spent on asking.
- A file is kept as segments of 8 MiB, each one sparse file and the unit of eviction: the bound is met within a few MiB,
  and unlinking is portable and safe for processes that still read. One sparse file for a whole shard would have to be
  evicted whole, or holes would be punched into it while other processes read it.
- What is present is recorded by pages of 128 KiB. A block of 32 samples (4 to 12 MB) comes as one GET of what is
  missing, rounded to pages (3 % more), wherever it lies in the segments. Whole aligned units of 4 or 8 MiB would fetch
  1.9 or 2.8 times what was asked for, in vain where the cache is smaller than the store
  (tests/benchmarks/bench_remote.py).
- Every page has a crc32c in its segment's head, checked once in every process before the page is believed; a damaged
  page is absent and fetched again. After that a read is one preadv, as on a local file.
- Data is written before its entry; nothing is synced. What a power cut leaves half written fails its crc.
- Processes share the folder. A segment is created by link (one wins), pinned by a shared flock while it is written or
  prefetched, and evicted only under an exclusive one. A process that fetches holds a second lock on the segment; others
  wait for it and then find the pages there.

Why the pipeline's cache of blocks (sar1m.io.net.ranged) does not serve here: it opens a file, computes a digest and
sets a time for every 256 KiB it reads, where a hit of ours is one preadv without a lock, as on a local file. It also
keeps a file for every block, four million for a terabyte, which every eviction would have to look at.

Both take their locks from file_lock, their counters from shared_numbers and their choice of what goes from eviction.
"""
