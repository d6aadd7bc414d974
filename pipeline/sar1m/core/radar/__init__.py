"""Radar geometry and radiometry of Sentinel-1 GRD images: arrays in, arrays out.

- product: the metadata of a product. geodesy: the ellipsoid. orbit: the satellite's position.
- range_doppler: line and sample of points on the ground. ground_range: from slant range to ground range and back.
- lattice: line and sample of all pixels of a map. geocode: the image on the map.
- lut, calibration: digital numbers to backscatter, without thermal noise. border: edges without measurement.
- sight, shadow, facets, blur, terrain: radiometric terrain flattening, layover, shadow, local incidence.
- tie_points: geocoding without an orbit.
"""
