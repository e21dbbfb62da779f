"""Event samples on disk: the book's own files, the public sets, and the cache."""
