"""Where batches go: a collector over HTTP, a file, memory; and the spool, which keeps what could not be delivered."""
