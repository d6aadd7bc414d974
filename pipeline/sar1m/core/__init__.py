"""Pure numerics: arrays in, arrays out. No paths, no network, no logging, no Dask.

- grid, utm, sphere, web_mercator: positions on the Earth. identity: names and keys.
- orientation, correlation, registration, resample: the shift between SAR and optical.
- speckle, quality: measures of one patch.
- pairing: partners of a plan. screening, dedupe, balance, splits, select: from candidates to samples. table: columns.
- radar: geometry and radiometry of Sentinel-1.
"""
