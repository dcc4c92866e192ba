"""Files of objects, true or predicted, as columns: boxes, masks, keypoints, segments of many images at once."""
