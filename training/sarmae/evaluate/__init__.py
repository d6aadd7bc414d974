"""What features are worth: classification, segmentation and detection by any encoder, studies of many arms."""
