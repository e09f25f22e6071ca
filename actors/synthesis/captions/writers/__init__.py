"""Caption writers: each the settings of one engine, and the stage that it is."""
