"""`dictlearn serve`: the feature pages on this machine, and the latents of any text that is typed."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from dictlearn.cli import events, features

FLAGS = {
    **events.FLAGS,
    "--port": {"type": int, "default": 8765, "help": "default 8765; 0 for a free one"},
}


def serve(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Serves workdir/features/NAME until it is interrupted."""
    from dictlearn.report.features.prompt import Prompter
    from dictlearn.report.features.server import server

    subject, dictionary = events.dictionary_of(config, workdir, arguments)
    folder = features.site(workdir, dictionary)
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"{folder} holds no pages; run `dictlearn features` first.")
    found = events.cached(subject, dictionary, workdir, arguments)
    prompt = Prompter(subject.lm, dictionary, found, features.said(workdir, dictionary))
    with server(folder, dictionary.name, prompt.answers, arguments.port) as listening:
        host, port, *_ = listening.server_address
        print(f"serve: http://{host}:{port}/ (Ctrl+C ends it)", flush=True)
        try:
            listening.serve_forever()
        except KeyboardInterrupt:
            print()
