"""Pictures and pages: columns of a collection in, files out."""
