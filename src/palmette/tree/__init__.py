"""The core: chat templates to segments, prefix trees, packing, packed batches and their masks."""
