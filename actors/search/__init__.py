"""Methods fitted in cells (dataset × shots × method): searched, kept, tested, asked."""
