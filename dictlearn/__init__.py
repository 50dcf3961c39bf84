"""Dictionary learning on neural-network activations, in JAX, at any scale.

The names of the package are listed in `__init__.pyi`, and each is imported when it is first used. JAX, Flax and
Orbax take seconds to import; `import dictlearn` and the command line's help do not wait for them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
