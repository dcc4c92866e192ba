"""What flows between the floors: taxonomies, outputs, predictions, masks. Frozen and self-validating."""
