"""Planning with a world model under a protocol, beside floors and a ceiling."""
