"""A page of the book as HTML: its recorded rows, its verdict, its tables and the origin of its numbers.

Numbers come from `claims` and `summary`, words from `verdicts.toml`; `markup` escapes whatever came from a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hypernas.errors import UserError
from hypernas.lab import claims, grids
from hypernas.lab.formats import COSTS, MISSING, estimate, number, plain, repeats
from hypernas.lab.markup import Html, folded, html_table
from hypernas.lab.rows import paper_figures
from hypernas.lab.summary import PLACE, STATISTICS, summary
from hypernas.training.files import toml_beside

if TYPE_CHECKING:
    import pandas as pd

# How a ranking is measured: over all architectures, over those that are no duplicates of a training one, and rho.
RANKINGS = ("kendall_tau", "kendall_tau_unseen", "spearman_rho")
NOT_A_NAME = {"space", "dataset", "n_train", "n_seeds", "seconds", "paper", "paper_source"}


@cache
def wording() -> Mapping[str, Any]:
    """Return `verdicts.toml`: `names`, `pages` and `front`."""
    return toml_beside(__file__, "verdicts.toml")


def display_number(value: float | None) -> str:
    """Return a number of any size with three digits, without powers of ten.

    >>> display_number(28800.0), display_number(0.0451), display_number(1000.0), display_number(None)
    ('28,800', '0.0451', '1,000', '–')
    """
    if value is None:
        return MISSING
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def display_name(value: Any) -> str:
    """Return a value of a row as a reader sees it.

    >>> display_name("hypernas-p"), display_name("few_shot"), display_name(1.5)
    ('HyperNAS-P', 'few shot', '1.5')
    """
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    names = wording()["names"]
    return names.get(text, text.replace("_", " "))


# --- the verdict ---


def badge_html(badge: str) -> Html:
    """Return the badge of a claim as a coloured label."""
    # A badge of several words, such as "too few pairs", has the first as its class.
    first, *_ = badge.split()
    return Html(f'<span class="hn-badge hn-{plain(first)}">{plain(badge)}</span>')


def place_name(where: Any) -> str:
    """Return the place of a line of `answers` for a reader: its space, dataset, labels and other settings.

    >>> place_name("nasbench101, 50, standard")
    'NAS-Bench-101, 50 labels'
    """
    parts = []
    for part in filter(None, str(where or "").split(", ")):
        # The standard profile is what the book is about; only another one is worth a word.
        if part != "standard":
            parts.append(f"{part} labels" if part.isdigit() else display_name(part))
    return ", ".join(parts)


def in_numbers(lines: pd.DataFrame, named: bool = False) -> str:
    """Return the spaces of a claim, or the size that decides it, each with estimate and number of seeds.

    A single space is named only if `named`, because most pages are about one.
    """
    whole = lines.iloc[0].to_dict()
    units = [whole]
    # Numbers of the whole claim exist only where one space, or one size, stands for it.
    if not whole["n_seeds"] or (named and not whole["where"]):
        units = lines[lines["level"] == claims.SPACE].to_dict("records")
    said = []
    for unit in units:
        where = place_name(unit["where"])
        numbers = f"{estimate(unit, unit['metric'])}, {repeats(unit['n_seeds'], unit['metric'])}"
        said.append(f"{where} {numbers}".strip())
    return "; ".join(said) or claims.NONE


def verdict_html(lines: pd.DataFrame, meaning: str) -> Html:
    """Return the verdict box for the `lines` of one claim: badge, claim, the number with its interval, `meaning`."""
    whole = lines.iloc[0]
    answer = whole["answer"]
    within = " (equal to within ±0.01)" if answer == claims.EQUIVALENT else ""
    return _box(answer, whole["says"], whole["source"], in_numbers(lines), _about(lines), meaning, within)


def _about(lines: pd.DataFrame) -> str:
    """What the numbers of a claim are: the metric, how runs are paired, over which numbers of labels, the interval."""
    whole = lines.iloc[0]
    about = plain(display_name(whole["metric"]))
    if whole["metric"] not in COSTS:
        claim = next(claim for claim in claims.claims() if (claim.page, claim.says) == (whole["page"], whole["says"]))
        paired = "from the published figure" if claim.paper else "paired by training set"
        about = f"difference in {about}, {paired}"
        sizes = _sizes(lines)
        # A line of one size names it where it stands.
        if not whole["n_seeds"] or not any(part.isdigit() for part in str(whole["where"]).split(", ")):
            about += f", mean over {sizes} labels" if sizes else ""
    has_interval = lines["low"].notna().any()
    return f"{about}, 95 % interval" if has_interval else about


def _sizes(lines: pd.DataFrame) -> str:
    """The numbers of labels that each space's number is a mean over, such as `39–781`, empty where there is one."""
    ranges = []
    sizes = lines[lines["level"] == claims.SIZE]
    for _, there in sizes.groupby("space", sort=False):
        numbers = {int(part) for where in there["where"] for part in where.split(", ") if part.isdigit()}
        if len(numbers) > 1:
            ranges.append(f"{min(numbers)}–{max(numbers)}")
    return " and ".join(dict.fromkeys(ranges))


def _box(
    badge: str,
    claim: str,
    source: str,
    numbers: str,
    about: str,
    meaning: str,
    within: str = "",
) -> Html:
    return Html(
        f'<div class="hn-verdict hn-{plain(badge)}">'
        f"<p>{badge_html(badge)} <strong>{plain(claim)}</strong>{within} "
        f'<span class="hn-source">{plain(source)}</span></p>'
        f'<p class="hn-number">{plain(numbers)} <span class="hn-source">{about}</span></p>'
        f"<p>{plain(meaning)}</p></div>"
    )


def claims_table(answers: pd.DataFrame, linked: bool = False) -> Html:
    """Return every claim of `claims.answers` with its words, numbers and badge; if `linked`, each links to its page."""
    rows = []
    for (page, _), lines in answers.groupby(["page", "says"], sort=False):
        whole = lines.iloc[0]
        says = plain(whole["says"])
        if linked:
            says = f'<a href="{plain(page)}.html">{says}</a>'
        about = f"{whole['source']}; in {display_name(whole['metric'])}"
        claim = Html(f"{says}<small>{plain(about)}</small>")
        rows.append([claim, in_numbers(lines, named=linked), badge_html(whole["answer"])])
    return html_table(["claim", "ours: difference, 95 % interval", "verdict"], rows)


def tally(answers: pd.DataFrame) -> Html:
    """Return a box that counts the claims with each badge."""
    badges = answers.loc[answers["level"] == claims.CLAIM, "answer"]
    counts = badges.value_counts()
    # In the order of the badges, from what holds to what the table cannot tell.
    present = [badge for badge in claims.BADGES if badge in counts]
    said = " &#183; ".join(f"{badge_html(badge)} {counts[badge]}" for badge in present)
    title = f"<strong>{len(badges)} claims and questions</strong>"
    return Html(f'<div class="hn-verdict"><p>{title}</p><p>{said}</p></div>')


def sizes_table(answers: pd.DataFrame) -> Html:
    """Return the answers size by size, for readers who want to know where a claim holds."""
    sizes = answers[answers["level"] == claims.SIZE]
    rows = []
    for line in sizes.to_dict("records"):
        difference = estimate(line, line["metric"])
        rows.append([line["says"], place_name(line["where"]), difference, line["n_seeds"], line["answer"]])
    return html_table(["claim", "where", "difference, 95 % interval", "seeds", "answer"], rows)


def cases_table() -> Html:
    """Return what to use in which case, and why, with the gains in the recorded rows."""
    rows = []
    for entry in wording()["use"]:
        page = Page(entry["page"])
        gains = [number(page.spaces(says)["difference"].iloc[0], sign=True) for says in entry.get("says", ())]
        because = plain(entry["because"].format(*gains))
        link = f'<a href="{plain(entry["page"])}.html">evidence</a>'
        rows.append([entry["case"], Html(f"<b>{plain(entry['use'])}</b>"), Html(f"{because} ({link})")])
    return html_table(["your case", "use", "because"], rows)


# --- tables of means ---


def series_columns(means: pd.DataFrame) -> list[str]:
    """Return the columns, except the place, in which the lines of a summary differ; they name the rows of a table."""
    ends = tuple(f"_{statistic}" for statistic in STATISTICS)
    own = [name for name in means.columns if name not in NOT_A_NAME and not name.endswith(ends)]
    n_values = means[own].nunique(dropna=False)
    # A table of one line has a name too.
    return [name for name in own if n_values[name] > 1] or own[:1]


def series_name(line: Mapping[Any, Any], columns: Sequence[str]) -> str:
    """Return the name of a series: its values in the given columns, without missing ones."""
    values = [line[name] for name in columns]
    # NaN, which is not equal to itself, stands where a line has no such setting.
    known = [value for value in values if value is not None and value == value]
    return ", ".join(map(display_name, known))


def _mean_cell(
    line: Mapping[Any, Any],
    metric: str,
    is_best: bool,
) -> Html:
    """`0.788`, bold where best, below it deviation and seeds, and the paper's figure where there is one."""
    text = ""
    if line["n_seeds"]:
        middle = number(line[f"{metric}_mean"], metric)
        text += f"<b>{middle}</b>" if is_best else middle
        spread = number(line[f"{metric}_std"], metric)
        below = "(1)" if spread == MISSING else f"± {spread} ({line['n_seeds']})"
        text += f"<small>{below}</small>"
    paper = number(line["paper"], metric)
    if paper != MISSING:
        text += f'<small class="hn-paper">paper {paper}</small>'
    return Html(text or MISSING)


# Stands for the number of labels where there is none, as of a proxy that is not trained.
NO_LABELS = 0


def _place_names(places: Sequence[tuple[str, str, int]]) -> list[str]:
    """The space of each place, with the dataset where a space has several."""
    datasets: dict[str, set[str]] = {}
    for space, dataset, _ in places:
        datasets.setdefault(space, set()).add(dataset)
    names = []
    for space, dataset, _ in places:
        name = display_name(space)
        if len(datasets[space]) > 1:
            name += f", {display_name(dataset)}"
        names.append(name)
    return names


def means_table(means: pd.DataFrame, metric: str = "kendall_tau") -> Html:
    """Return a `summary` pivoted to a row per series and a column per space and size.

    The best is bold, and constant settings are left out.
    """
    import pandas as pd

    mean = f"{metric}_mean"
    means = means[means[mean].notna() | means["paper"].notna()]
    if not means["n_seeds"].any():
        return Html("<p>No rows are recorded yet.</p>")
    place = ["space", "dataset", "n_train"]
    means = means.assign(n_train=means["n_train"].fillna(NO_LABELS).astype(int))
    # Sizes that only the paper has are not what a page compares, and would push its own columns out of sight.
    means = means[means.groupby(place)["n_seeds"].transform("max") > 0]
    # A line of the paper alone has no mean of ours.
    ours = means[mean].where(means["n_seeds"] > 0)
    best = means.assign(ours=ours).groupby(place)["ours"].transform("max")
    is_best = means[mean] == best
    columns = series_columns(means)
    names = []
    cells = []
    for line, bold in zip(means.to_dict("records"), is_best, strict=True):
        names.append(series_name(line, columns))
        cells.append(_mean_cell(line, metric, bold))
    shown = pd.Series(cells, means.index, dtype=object)
    table = means.assign(series=names, shown=shown)
    table = table.pivot_table("shown", "series", place, aggfunc="last")
    # In the order of the summary.
    table = table.reindex([*dict.fromkeys(names)]).fillna(MISSING)
    places: list[Any] = table.columns.tolist()
    above = "<th></th>"
    for name, group in groupby(_place_names(places)):
        above += f'<th colspan="{len(list(group))}">{plain(name)}</th>'
    sizes = [labels for _, _, labels in places]
    head: list[Any] = ["labels", *sizes]
    # Where nothing is trained on labels, the spaces are the only head.
    if not any(sizes):
        head = ["", *_place_names(places)]
        above = ""
    body = table.reset_index().to_numpy().tolist()
    caption = f"{plain(display_name(metric))}: mean ± standard deviation (seeds)"
    return html_table(head, body, caption, above and f"<tr>{above}</tr>")


def _frame_cell(value: Any, digits: int) -> Any:
    """A number rounded, a word as a reader knows it; a sentence as it stands."""
    if isinstance(value, float):
        return round(value, digits)
    is_word = isinstance(value, str) and " " not in value
    return display_name(value) if is_word else value


def frame_table(frame: pd.DataFrame, digits: int = 2) -> Html:
    """Return a frame as a table without empty columns; numbers have at most `digits` decimals."""
    frame = frame.dropna(axis=1, how="all")
    rows = []
    for line in frame.itertuples(index=False, name=None):
        rows.append([_frame_cell(value, digits) for value in line])
    head = [display_name(name) for name in frame.columns]
    return html_table(head, rows)


# Two scores of an untrained network that need no network at all.
FREE = ("params", "flops")


def proxies_verdict(rows: pd.DataFrame) -> Html:
    """Return the box for zero-cost proxies: the best proxy in each place minus the better of the two free ones.

    Badge and interval come from `claims`, as in every other box; a pair is one draw of weights and images.
    """
    leads = proxy_leads(rows)
    if leads.empty:
        return Html("<p>No rows are recorded yet.</p>")
    parts = []
    for line in leads.to_dict("records"):
        parts.append(f"{place_name(line['where'])} ({display_name(line['best'])}) {estimate(line)}")
    badge = claims.badge(leads["answer"].tolist())
    n_draws = leads["n_seeds"].min()
    claim = "The best proxy ranks better than the number of parameters or multiply-adds"
    about = f"difference in Kendall tau, {n_draws} draws, 95 % interval"
    meaning = "Count the parameters first: a proxy costs seconds per network and has to rank better than that."
    return _box(badge, claim, "our question", "; ".join(parts), about, meaning)


def proxy_leads(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `where`, `best` (the best proxy) and what `claims` says of its lead over `FREE`, by space and dataset."""
    import pandas as pd

    lines = []
    for (space, dataset), part in rows.groupby(["space", "dataset"]):
        taus = part.pivot_table("kendall_tau", "seed", "method")
        free = [name for name in FREE if name in taus]
        if not free or len(free) == taus.shape[1]:
            continue
        best = taus.drop(columns=free).mean().idxmax()
        lead = (taus[best] - taus[free].max(axis=1)).dropna()
        judged = claims.judged(lead, claims.Claim("zero_cost", "", "", {}))
        lines.append({"where": f"{space}, {dataset}", "best": best, **judged})
    return pd.DataFrame(lines)


# --- provenance ---


def provenance(rows: pd.DataFrame, work: str = "training") -> Html:
    """Return the origin of rows as one folded line: number, hours, devices, tables; commits and dates are inside."""
    if rows.empty:
        return Html("<p>No rows are recorded yet.</p>")
    values = {}
    for name in ("source", "profile", "seed", "device", "version", "commit"):
        if name in rows:
            values[name] = sorted(map(str, rows[name].dropna().unique()))
    hours = rows["seconds"].sum() / 3600
    devices = len(values.get("device", []))
    kinds = "1 kind" if devices == 1 else f"{devices} kinds"
    line = f"{len(rows):,} recorded runs, {hours:,.1f} hours of {work}"
    line += f", {kinds} of processor, tables and commits inside"
    items = [(name, ", ".join(known)) for name, known in values.items() if known]
    if "started" in rows and rows["started"].notna().any():
        days = rows["started"].dropna().str[:10]
        items.append(("date", f"{days.min()} to {days.max()}"))
    return folded(line, html_table(["", ""], items))


# --- pages ---


class Page:
    """The recorded rows of one page of `grids.toml` and what they say.

    A `profile` above quick first computes missing rows. Raise UserError if the page has no claims.
    """

    def __init__(
        self,
        name: str,
        profile: str = "quick",
        device: str = "cpu",
    ) -> None:
        self.name = name
        grids.record(name, profile, device)
        self.rows = grids.rows(name)

    @property
    def standard(self) -> pd.DataFrame:
        """The rows of the standard profile, which belong in one table and one figure."""
        return self.rows[self.rows["profile"] == "standard"]

    @cached_property
    def answers(self) -> pd.DataFrame:
        """The result of `claims.answers` for the page."""
        return claims.answers(self.rows, self.name)

    def answer(self, says: str) -> pd.DataFrame:
        """Return the lines of one claim. Raise UserError if the page does not make it."""
        lines = self.answers[self.answers["says"] == says]
        if lines.empty:
            raise UserError(f"the claim must be one of the page {self.name}, got {says!r}: see claims.toml")
        return lines

    def spaces(self, *says: str) -> pd.DataFrame:
        """Return the lines of these claims for each space, as a figure of differences shows them."""
        import pandas as pd

        lines = pd.concat([self.answer(claim) for claim in says])
        return lines[lines["level"] == claims.SPACE].reset_index(drop=True)

    def verdict(self) -> Html:
        """Return the verdict box at the top of the page."""
        words = wording()["pages"][self.name]
        lines = self.answer(words["claim"])
        answer = lines.iloc[0]["answer"]
        # What a page concludes was written for these badges; rows that say something else take it away.
        meaning = words["meaning"] if answer in words["badges"] else ""
        return verdict_html(lines, meaning)

    def means(
        self,
        first: Iterable[str] = (),
        metrics: Sequence[str] = RANKINGS,
        figures: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return the `summary` of the rows of the standard profile, also split by the settings `first`."""
        return summary(self.standard, figures, metrics, [*PLACE, *first])

    def table(
        self,
        metric: str = "kendall_tau",
        first: Iterable[str] = (),
        figures: pd.DataFrame | None = None,
    ) -> Html:
        """Return a table of methods and settings against numbers of labels."""
        return means_table(self.means(first, [metric], figures), metric)

    def claims(self) -> Html:
        """Return all claims of the page and, folded, the same size by size."""
        n = self.answers["says"].nunique()
        # One interval in twenty misses the truth.
        missing = max(1, round(n / 20))
        note = f"<p>{n} comparisons: of so many 95 % intervals about {missing} may miss by chance.</p>" if n > 1 else ""
        by_size = folded("Size by size", sizes_table(self.answers))
        return Html(claims_table(self.answers) + note + by_size)

    def details(self) -> Html:
        """Return the origin of the rows, how much of the page is recorded, and how to run it again."""
        state = grids.state(self.name).replace("`", "")
        command = f"hypernas run notebooks/{self.name}.ipynb --profile standard -o executed"
        run = folded("Run this page", f"<p>{plain(state)}</p><pre>{plain(command)}</pre>")
        return Html(provenance(self.rows) + run)


def quoted(
    name: str,
    space: str,
    methods: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the paper's Kendall taus of a table for one space, restricted to `methods` if given."""
    figures = paper_figures(name)
    figures = figures[figures["space"] == space]
    if not methods:
        return figures
    return figures[figures["method"].isin(methods)]
