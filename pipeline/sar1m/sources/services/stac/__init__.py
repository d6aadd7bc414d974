"""STAC APIs and static catalogues, read by windows of cloud-optimised GeoTIFFs."""
