"""Pure numerics: arrays in, arrays out. No paths, no network, no logging, no Dask."""
