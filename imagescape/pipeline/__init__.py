"""Every verb: columns of a collection in, a method, columns out. The only place where table and methods meet."""
