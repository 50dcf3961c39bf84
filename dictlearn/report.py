"""The page."""
def write(config, workdir):
    return workdir
