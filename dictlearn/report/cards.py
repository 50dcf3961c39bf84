"""The chosen latents as cards: numbers, passages shaded by activation, and logits."""

import html
from collections import Counter

from dictlearn.analyses._passages import Cell, Passage
from dictlearn.analyses.examples import DENSEST, FEWEST, PASSAGES, Latent, Logits, Study
from dictlearn.report.markup import decimals, marked, shown, token

_LOGITS = (
    "<p><b>Logits.</b> What the latent writes into the residual stream, taken straight to the"
    " vocabulary: its decoder row, times the gain of the model's last norm, times the unembedding;"
    " for an activation of 1, in units of the normalised activations. This is a linear"
    " approximation that ignores the norm's division and all layers in between. Far from the last"
    " layer it is a hint at most.</p>"
)


def section(study: Study) -> str:
    """How the latents were chosen and how to read them, then one card each."""
    if not study.latents:
        return (
            f"<p>No latent of {html.escape(study.name)} fired on at least {FEWEST} and at most"
            f" {shown(DENSEST, '.0%')} of {study.n_tokens:,} training tokens: none to show.</p>"
        )
    return f"{_intro(study)}{''.join(_card(latent) for latent in study.latents)}"


def _intro(study: Study) -> str:
    return (
        f"<p>These are {len(study.latents)} of the {study.n_latents:,} latents of"
        f" <b>{html.escape(study.name)}</b>, the dictionary that explains most variance, read on"
        f" the {study.n_tokens:,} tokens of {study.n_sequences:,} training sequences. <b>They are"
        f" not a random sample.</b> {study.n_candidates:,} latents fired on at least {FEWEST} and at"
        f" most {shown(DENSEST, '.0%')} of these tokens. Cut by density into equal groups,"
        f" from rare to dense, each group shows the latent whose {PASSAGES} strongest passages"
        " stand out most: the weakest of their peaks over the latent's mean activation. A latent"
        " that peaks on the same token as one before it is skipped.</p>"
        "<p><b>Passages.</b> The strongest activations, one a document, strongest first. The"
        " darker a token's background, the larger its activation, relative to the latent's"
        ' largest; <mark style="--a:1">the peak</mark> is underlined, and its activation is'
        " printed before the passage, in units of the normalised activations. Hover over a token for its"
        f" own.</p>{_LOGITS if study.latents[0].logits else ''}"
    )


def _card(latent: Latent) -> str:
    form = decimals(latent.largest)
    passages = "".join(_passage(passage, latent.largest, form) for passage in latent.passages)
    words = Counter(passage.cells[passage.peak].text for passage in latent.passages)
    peaks = ", ".join(f"{token(word)} × {count}" for word, count in words.most_common(3))
    return (
        f'<article class="latent"><h3>Latent {latent.index}</h3><p class="note">Fires on'
        f" {shown(latent.density, '.2%')} of tokens ({latent.n_fired:,}); largest activation"
        f" {latent.largest:{form}}; peaks on {peaks}.</p>"
        f'<div class="body"><ol class="passages">{passages}</ol>'
        f"{_logits(latent.logits) if latent.logits else ''}</div></article>"
    )


def _passage(passage: Passage, largest: float, form: str) -> str:
    cells = [_cell(c, largest, form, i == passage.peak) for i, c in enumerate(passage.cells)]
    before, after = "…" * passage.cut_before, "…" * passage.cut_after
    return (
        f'<li><span class="value">{passage.val:{form}}</span>'
        f'<span class="text">{before}{"".join(cells)}{after}</span></li>'
    )


def _cell(cell: Cell, largest: float, form: str, peak: bool) -> str:
    """A cell, shaded if the latent is active; a space before a word is not shaded."""
    if cell.val <= 0:
        return marked(cell.text)
    text = cell.text.lstrip(" ") or cell.text
    space = " " * (len(cell.text) - len(text))
    tag, share = "mark" if peak else "span", cell.val / largest
    shade = f'style="--a:{share:.2f}" title="{cell.val:{form}}"'
    return f"{space}<{tag} {shade}>{marked(text)}</{tag}>"


def _logits(logits: Logits) -> str:
    sides = (("raises", logits.top), ("lowers", logits.bottom))
    return '<div class="logits">{}</div>'.format(
        "".join(
            f"<div><h4>{title}</h4><table><tbody>{''.join(map(_logit, side))}</tbody></table></div>"
            for title, side in sides
        )
    )


def _logit(entry: tuple[str, float]) -> str:
    text, weight = entry
    return f'<tr><td>{token(text)}</td><td class="number">{shown(weight, "+.2f")}</td></tr>'
