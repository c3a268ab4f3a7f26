"""Where results are stored: a local folder or an object store, with a cache on each node."""
