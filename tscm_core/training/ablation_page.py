"""The page of an ablation, in Markdown: it must be understood by whoever has read nothing else."""

from __future__ import annotations

from tscm_core.training.ablation_arms import BASE
from tscm_core.training.ablation_table import START, TEACHER, EvaluationFacts, Report, Row, spread

TERMS = {
    "L_hard": "`max(0, |S(a) - S(p)|² - |S(a) - S(n)|² + m)`: the triplet loss of the student alone",
    "L_soft": "`|S(x) - T(x)|²`: student and teacher on the same image",
    "L_cm": "`d(S(a), T(p)) + d(S(p), T(a))`: the cross-metric term, distance `d` below",
    "L_hard'": "`L_hard` with distances that are not squared, as in the released code",
    "L_released": "`½ max(0, m + D)²` with `D = |S(a) - T(p)|² + |S(p) - T(a)|² + |S(a) - T(a)|² + |S(p) - T(p)|² + "
    "|S(n) - T(n)|²`: the form of the released code, which holds the soft terms",
    "L_feature": "`|P S(x) - T(x)|²` through a learnt linear map `P`, `P S(x)` of unit length: plain feature "
    "distillation (Romero et al., 2015)",
    "L_distance": "`huber(|S(x) - S(y)| / µ, |T(x) - T(y)| / µ)`, `µ` the mean distance of each network: relational "
    "distillation of distances (Park et al., 2019)",
    "L_angle": "`huber` of the cosines of the angles at `y` between `x` and `z`, of student and teacher: relational "
    "distillation of angles (Park et al., 2019)",
}
"""What stands in the losses of the arms; ``S`` student, ``T`` teacher, ``a p n`` anchor, positive, negative."""


def to_markdown(report: Report) -> str:
    """The whole page."""
    parts = [*_head(report), *_losses(report), *_shared(report)]
    for facts in report.sets:
        parts += [f"## {facts.name}", _facts(facts), "\n".join(report.table_of(facts))]
    return "\n\n".join([*parts, *_provenance(report)]) + "\n"


def _head(report: Report) -> list[str]:
    seeds = ", ".join(map(str, report.seeds))
    several = len(report.seeds) > 1
    values = "mean ± sample standard deviation over the seeds" if several else "of one seed: nothing is known of spread"
    lines = [
        "# Ablation: what each term of the loss is worth",
        "The same student is trained once for each loss and seed; nothing else differs between the arms. "
        f"Written by `tscm train ablation`; the command and its settings are at the end. Seeds: {seeds}.",
        f"Recall is in percent, {values}. It is the share of queries, of those with a right image in the database, "
        "that find one among their k most similar images. The spread is that of training; that of the choice of "
        "queries is not in it.",
    ]
    if report.base and several:
        lines.append(
            f"Differences to `{BASE}` are taken seed by seed (same seed, same start), then averaged; beside them is "
            "the standard error of that mean. «Beyond the spread» says whether the mean is larger in size than the "
            f"standard deviation of these differences. That describes {len(report.seeds)} seeds, it is no test of "
            "significance."
        )
    return lines


def _losses(report: Report) -> list[str]:
    arms = [row for row in report.rows if row.arm]
    lines = ["| arm | loss, with weights | steps | images/s in training |", "| --- | --- | ---: | ---: |"]
    for row in arms:
        assert row.arm is not None, "chosen above"
        speed = f"{spread(row.images_per_s).mean:.0f}" if row.images_per_s else "-"
        lines.append(f"| `{row.name}` | {row.arm.loss} | {_steps(row)} | {speed} |")
    used = [term for term in TERMS if any(row.arm and term in row.arm.loss.split() for row in arms)]
    glossary = [f"- {term}: {TERMS[term]}" for term in used]
    return [
        "## The arms",
        "\n".join(lines),
        "`S` is the student, `T` the teacher, `a`, `p`, `n` anchor, positive and negative of a tuple, `m` the margin. "
        "Every term is a mean over the batch.",
        "\n".join(glossary),
        f"Two rows are for reference: **{START}** is the student before its first step, **{TEACHER}** is the network "
        "that the arms learn from; it is one network, so it has no spread.",
    ]


def _steps(row: Row) -> str:
    taken = sorted(set(row.steps))
    return " to ".join(str(step) for step in dict.fromkeys((taken[0], taken[-1])))


def _shared(report: Report) -> list[str]:
    which = {
        "last": "The network after the last step is judged; no figure had a say in choosing it.",
        "best": "Of each run the network with the best recall@1 on the validation images, which are not those below, "
        "is judged.",
    }[report.select]
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in report.conditions.items())]
    return [
        "## What all arms share",
        "No setting was chosen for one arm: these are the same for all, the weights of the terms stand above. " + which,
        "\n".join(lines),
    ]


def _facts(facts: EvaluationFacts) -> str:
    about = f"{facts.about.strip().rstrip('.')}. " if facts.about.strip() else ""
    without = facts.queries - facts.queries_with_positive
    left = f" {without} more have no right image and are left out." if without else ""
    return (
        f"{about}{facts.protocol[0].upper()}{facts.protocol[1:]}. {facts.queries_with_positive} queries, a database of "
        f"{facts.database} images; one query is {100 / facts.queries_with_positive:.1f} points.{left} {facts.apart}"
    )


def _provenance(report: Report) -> list[str]:
    models = ["| row | networks, by seed |", "| --- | --- |"]
    models += [
        f"| {row.name} | {', '.join(f'`{model}`' for model in dict.fromkeys(row.model_ids))} |" for row in report.rows
    ]
    config = [f"```yaml\n{report.config.strip()}\n```"] if report.config.strip() else []
    return [
        "## How to make this page again",
        f"```\n{report.command}\n```",
        "Every figure by seed is in `ablation.json` beside this page. The settings:",
        *config,
        "\n".join(models),
    ]
