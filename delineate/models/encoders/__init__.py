"""Feature extractors with channels and strides, from timm and torchvision."""
