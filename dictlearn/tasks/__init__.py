r"""Labelled texts, for probes: which class each document has. One task a file; `make` finds it by name.

A task is a function of its file's name,

    NAME(..., setting=default, ...) -> Task

that reads an installed package, a file, a folder or a data set of the hub, or makes its texts. `make` also
takes the path of a file of your own: JSON lines, CSV or Parquet with a column of text and one of labels
(tasks/_files.py).

    task = tasks.make("wiki_topics", classes=5)
    task = tasks.make("mine.jsonl", attributes=("gender",))

`draw` takes equally many documents of each class, and `questions` asks of each class whether a document has it.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dictlearn.tasks._draw import Drawn, Question, draw, questions, split
from dictlearn.tasks._task import Task

__all__ = ["Drawn", "Question", "Task", "draw", "make", "names", "questions", "split"]

_FILE = "file"


def names() -> list[str]:
    """The names of all tasks: the files of this folder without a leading underscore.

    Returns:
        The names in alphabetical order.

    Example:
        >>> {"planted", "wiki_topics", "bias_in_bios"} <= set(names())
        True
    """
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def make(name: str, tokenizer: Tokenizer | None = None, *, classes: Any = (), **settings) -> Task:
    """Reads a task.

    Args:
        name: a task, of `names()`, or the path of a file or a folder of labelled texts.
        tokenizer: the tokenizer of the model that will read it, for tasks made of its tokens.
        classes: the labels to keep; a number for so many, the most frequent first; empty for all.
        settings: settings of the task; the others have their defaults.

    Returns:
        The Task.

    Raises:
        ValueError: for an unknown task, setting or class, listing the known ones, and for a bad file, naming
            the file, the line and the column.
        FileNotFoundError: for a package that is not installed, with the pip command, and for a missing file.

    Example:
        >>> task = make("planted", classes=("fruit", "metal"), n=4)
        >>> sorted(set(task.label_S.tolist())), len(task.text)
        (['fruit', 'metal'], 8)
    """
    if name not in names():
        path = Path(name)
        if not path.suffix and not path.exists():
            there = ", ".join(names())
            raise ValueError(f"unknown task {name!r}; there are {there}, and paths of files.")
        name, settings = _FILE, {"source": path, **settings}
    maker = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    known = inspect.signature(maker).parameters
    if bad := [key for key in settings if key not in known]:
        there = ", ".join(("classes", *(key for key in known if key != "tokenizer")))
        raise ValueError(f"task {name!r} has no setting {bad[0]!r}; there are {there}.")
    needed = (key for key, one in known.items() if one.default is one.empty and key != "tokenizer")
    if missing := [key for key in needed if key not in settings]:
        raise ValueError(f"task {name!r} needs the setting {missing[0]!r}.")
    given = {"tokenizer": tokenizer} if "tokenizer" in known else {}
    return maker(**given, **settings).of(classes)
