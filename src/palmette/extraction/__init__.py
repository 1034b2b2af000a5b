"""Fields of a schema read out of documents: verbatim values with their places, and normalised values beside them."""
