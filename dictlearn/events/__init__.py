"""The event cache: every active code of a dictionary on a text, sorted by latent, and its reads.

gather     in memory          write    to a folder, in one pass, by any number of processes
read       from a folder      windows, near    where a latent fires, and which latents are alike
"""

from dictlearn.events.cache import Events, read
from dictlearn.events.rows import Rows, of_store, of_text
from dictlearn.events.writer import gather, job, write

__all__ = ["Events", "Rows", "gather", "job", "of_store", "of_text", "read", "write"]
