"""Images in, Outputs out: encoders, blocks, and one file a paper."""
