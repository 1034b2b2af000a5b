"""Decoding: answers grown or scored on the branches of a document's tree."""
