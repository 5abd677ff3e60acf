"""The command line: one file a group of verbs, each of which parses, calls the pipeline and prints."""
