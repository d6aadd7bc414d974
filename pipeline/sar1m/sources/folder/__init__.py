"""One's own GeoTIFFs: described by STAC items, by a table scenes.csv, or by the names of folders."""
