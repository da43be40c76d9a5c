"""Browser tests: a package, so that its one browser is closed before other tests run event loops of their own."""
