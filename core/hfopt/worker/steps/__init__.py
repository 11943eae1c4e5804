"""What a worker does for each kind of step. Each module's ``run`` fills a folder and returns what the manifest adds."""
