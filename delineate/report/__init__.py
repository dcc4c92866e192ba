"""Pages that a person looks at, made from what a run left."""
