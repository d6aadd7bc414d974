"""The masked autoencoder: timm's ViT over the visible patches, a light decoder, the loss."""
