//! The four panels of a plan's chart.

use super::{
    Area, Drawn, FAINT, GRID, INK, LIMIT, LOGIN_LIMIT, Outcome, Strategy, color, power_of_ten, table, text,
};
use crate::outcome::Run;
use plotters::{coord::types::RangedCoordf64, prelude::*};
use std::collections::BTreeMap;
use token_broker_simulation::{DAY, HOUR, MINUTE, SECOND};

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

type Label<'a> = &'a dyn Fn(f64) -> String;

/// The parts into which a run is divided. More would make the file larger, and no clearer.
const PARTS: u64 = 150;
/// The axis ends at one request in a million. Smaller fractions are drawn as zero.
const NONE: f64 = -6.0;
/// Exponents of the waits on the axis, in seconds.
const SHORTEST_WAIT: f64 = -3.0;
const LONGEST_WAIT: f64 = 1.7;

/// The time axis of a plan.
struct Span {
    days: f64,
}

impl Span {
    #[expect(clippy::cast_precision_loss, reason = "a plan has fewer than 2^53 days")]
    fn of(outcome: &Outcome) -> Self {
        Self { days: outcome.plan.days as f64 }
    }

    /// Days, or hours if the plan lasts two days or less: units per day, and the unit.
    fn unit(&self) -> (f64, &'static str) {
        if self.days > 2.0 { (1.0, "days") } else { (24.0, "hours") }
    }

    fn end(&self) -> f64 {
        self.days * self.unit().0
    }
}

/// The most logins in one minute, for each part of the run.
pub(super) fn logins(area: &Area, outcome: &Outcome) -> Drawn {
    let span = Span::of(outcome);
    let most = outcome.runs.iter().map(|run| run.tally.most_logins_in_a_minute).max().unwrap_or(0);
    let top = exponent_of(most).max(1.6) + 0.15;
    let mut chart =
        chart(area, "Logins arriving upstream, in the busiest minutes", 0.0..span.end(), -0.2..top)?;
    let unit = span.unit().1;
    mesh(&mut chart, (unit, &short), ("logins a minute", &power_of_ten, 4))?;
    let limit = [(0.0, LOGIN_LIMIT.log10()), (span.end(), LOGIN_LIMIT.log10())];
    chart.draw_series(DashedLineSeries::new(limit, 8, 5, LIMIT.stroke_width(2)))?;
    for run in &outcome.runs {
        let part_minutes = (outcome.plan.days * DAY / MINUTE / PARTS).max(1);
        let mut parts: BTreeMap<u64, u32> = BTreeMap::new();
        for (minute, logins) in &run.figures.logins_by_minute {
            let most = parts.entry(minute / part_minutes).or_default();
            *most = (*logins).max(*most);
        }
        let dots = parts.iter().map(|(part, logins)| {
            let x = at(*part, part_minutes * MINUTE, &span);
            Circle::new((x, f64::from(*logins).log10()), width(run) / 2 + 2, color(run.strategy).filled())
        });
        chart.draw_series(dots)?;
    }
    Ok(())
}

/// The fraction of the requests that had no token after a wait.
pub(super) fn waits(area: &Area, outcome: &Outcome) -> Drawn {
    let title = "Requests still without a token after this time";
    let mut chart = chart(area, title, SHORTEST_WAIT..LONGEST_WAIT, NONE..0.1)?;
    let share = |exponent: f64| match power_of_ten(exponent + 2.0) {
        _ if exponent <= NONE => "none".to_owned(),
        percent if percent.is_empty() => percent,
        percent => format!("{percent} %"),
    };
    mesh(&mut chart, ("seconds", &power_of_ten), ("share of all requests", &share, 8))?;
    for run in &outcome.runs {
        let points: Vec<(f64, f64)> = (0..=PARTS)
            .map(|step| {
                let exponent = SHORTEST_WAIT + (LONGEST_WAIT - SHORTEST_WAIT) * fraction(step, PARTS);
                let unserved = run.unserved_after(milliseconds(exponent));
                (exponent, unserved.log10().clamp(NONE, 0.0))
            })
            .collect();
        chart.draw_series(LineSeries::new(points, color(run.strategy).stroke_width(width(run))))?;
    }
    Ok(())
}

/// The average age of the pairs that were handed out.
pub(super) fn ages(area: &Area, outcome: &Outcome) -> Drawn {
    let span = Span::of(outcome);
    let lines: Vec<_> = outcome.runs.iter().map(|run| (run, ages_ms(run, outcome, &span))).collect();
    let oldest_ms = lines.iter().flat_map(|(_, line)| line).map(|(_, age_ms)| *age_ms).fold(1.0, f64::max);
    let units = [(DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes"), (SECOND, "seconds")];
    let (unit_ms, unit) = units
        .into_iter()
        .map(|(unit_ms, unit)| (fraction(unit_ms, 1), unit))
        .find(|(unit_ms, _)| oldest_ms > 2.0 * unit_ms)
        .unwrap_or((1.0, "milliseconds"));
    let top = oldest_ms / unit_ms * 1.08;
    let mut chart = chart(area, "Age of the pair handed out, on average", 0.0..span.end(), 0.0..top)?;
    mesh(&mut chart, (span.unit().1, &short), (unit, &short, 6))?;
    for (run, line) in lines {
        let line = line.into_iter().map(|(x, age_ms)| (x, age_ms / unit_ms));
        chart.draw_series(LineSeries::new(line, color(run.strategy).stroke_width(width(run))))?;
    }
    Ok(())
}

/// The average age in each part of the run.
fn ages_ms(run: &Run, outcome: &Outcome, span: &Span) -> Vec<(f64, f64)> {
    let part_hours = (outcome.plan.days * 24 / PARTS).max(1);
    let mut parts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for (hour, (sum_ms, answers)) in &run.figures.ages_by_hour {
        let part = parts.entry(hour / part_hours).or_default();
        *part = (part.0 + sum_ms, part.1 + answers);
    }
    let mean = |(part, (sum_ms, answers)): (&u64, &(u64, u64))| {
        (at(*part, part_hours * HOUR, span), fraction(*sum_ms, *answers))
    };
    parts.iter().map(mean).collect()
}

/// Reads, writes and refused writes of the table for each thousand requests.
pub(super) fn store(area: &Area, outcome: &Outcome) -> Drawn {
    let bars: Vec<_> = outcome
        .runs
        .iter()
        .map(|run| {
            let for_thousand = |number: u64| 1_000.0 * fraction(number, run.tally.requests.max(1));
            let figures = &run.figures;
            (
                run.strategy,
                [for_thousand(figures.reads), for_thousand(figures.writes)],
                for_thousand(figures.conflicts),
            )
        })
        .collect();
    let most = bars.iter().map(|(_, [reads, writes], _)| reads + writes).fold(1.0, f64::max);
    let title = "Operations of the table per 1,000 requests";
    let rows = 4.0;
    let mut chart = chart(area, title, 0.0..most * 1.05, 0.0..rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(6)
        .x_desc("operations")
        .x_label_formatter(&|value| short(*value))
        .light_line_style(GRID.mix(0.0))
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .label_style(text(15.0, FAINT))
        .axis_desc_style(text(15.0, FAINT))
        .draw()?;
    for (row, (strategy, [reads, writes], conflicts)) in bars.iter().enumerate() {
        let bottom = rows - 1.0 - f64::from(u32::try_from(row)?);
        let bar =
            |from: f64, to: f64, style| Rectangle::new([(from, bottom + 0.12), (to, bottom + 0.5)], style);
        chart.draw_series([
            bar(0.0, *reads, color(*strategy).mix(0.45).filled()),
            bar(*reads, reads + writes, color(*strategy).filled()),
        ])?;
        let label = format!(
            "{}: {} reads, {} writes, {} refused",
            strategy.name(),
            rounded(*reads),
            rounded(*writes),
            rounded(*conflicts)
        );
        chart.draw_series([Text::new(label, (0.0, bottom + 0.82), text(16.0, INK))])?;
    }
    Ok(())
}

fn chart<'a, 'b>(
    area: &Area<'b>,
    title: &str,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    Ok(ChartBuilder::on(area)
        .caption(title, text(20.0, INK))
        .margin(14)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?)
}

fn mesh(
    chart: &mut Chart<'_, '_>,
    (x, x_label): (&str, Label<'_>),
    (y, y_label, y_labels): (&str, Label<'_>, usize),
) -> Drawn {
    chart
        .configure_mesh()
        .x_labels(8)
        .y_labels(y_labels)
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&|value| x_label(*value))
        .y_label_formatter(&|value| y_label(*value))
        .light_line_style(GRID.mix(0.0))
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .label_style(text(15.0, FAINT))
        .axis_desc_style(text(15.0, FAINT))
        .draw()?;
    Ok(())
}

/// The middle of a part of the run.
fn at(part: u64, part_ms: u64, span: &Span) -> f64 {
    (fraction(part * part_ms, DAY) + fraction(part_ms, DAY) / 2.0) * span.unit().0
}

/// A line that is drawn over another one is thinner, so that both are visible.
fn width(run: &Run) -> u32 {
    match run.strategy {
        Strategy::SharedCache => 5,
        Strategy::Broker => 3,
        Strategy::NoSharing | Strategy::LockWithoutFence => 2,
    }
}

fn exponent_of(number: usize) -> f64 {
    fraction(number as u64, 1).max(1.0).log10()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "waits are positive and short")]
fn milliseconds(exponent: f64) -> u64 {
    (1_000.0 * 10_f64.powf(exponent)).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "counts and spans are far below 2^53")]
fn fraction(number: u64, whole: u64) -> f64 {
    number as f64 / whole as f64
}

fn short(value: f64) -> String {
    if value.fract().abs() > 1e-9 {
        return format!("{value:.1}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no axis has negative numbers"
    )]
    table::thousands(value.round() as u64)
}

fn rounded(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is positive and small")]
    match value {
        value if value <= 0.0 => "0".to_owned(),
        value if value < 100.0 => format!("{value:.2}"),
        value => table::thousands(value.round() as u64),
    }
}
