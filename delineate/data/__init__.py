"""Files in, images and targets out: formats, built-in scenes, transforms, the dataset doctor."""
