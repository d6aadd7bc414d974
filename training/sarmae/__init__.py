"""SARMAE: a masked autoencoder for SAR, pretrained by streaming the shards that `sar1m` writes."""
