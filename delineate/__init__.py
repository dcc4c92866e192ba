"""delineate: from images and annotations to trained, measured and explained models of what is where."""
