"""io and core put together for one work item; no Dask here."""
