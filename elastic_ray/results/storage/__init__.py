"""Files of the results: a local folder or an object store, with a cache on each node.

`folder` is the results folder as files, `atomic_write` writes one local file, `object_store` opens
remote stores, `node_cache` keeps copies of remote folders on a node's disk.
"""
