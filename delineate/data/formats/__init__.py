"""One file a layout on disk; each turns a folder into a Layout."""
