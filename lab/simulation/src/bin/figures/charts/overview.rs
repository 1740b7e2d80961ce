//! The chart of all plans: the busiest 60 s of each strategy, and the limit.

use super::{
    Area, Drawn, FAINT, GRID, INK, LIMIT, LOGIN_LIMIT, Outcome, PAPER, Strategy, capital, color, heading,
    legend, power_of_ten, table, text,
};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use std::path::Path;

const WIDTH: u32 = 1_100;
const ROW: i32 = 25;
const TOP: i32 = 112;
const BOTTOM: i32 = 62;
/// Where the axis begins, at one login.
const LEFT: i32 = 350;
/// Where the axis ends.
const RIGHT: i32 = 1_060;

/// Draws one row for each plan.
pub(crate) fn overview(outcomes: &[Outcome], folder: &Path) -> Drawn {
    let path = folder.join("logins.svg");
    let end = TOP + i32::try_from(outcomes.len())? * ROW;
    let root = SVGBackend::new(&path, (WIDTH, u32::try_from(end + BOTTOM)?)).into_drawing_area();
    root.fill(&PAPER)?;
    let title = "The most logins that arrived upstream within 60 s";
    root.draw(&Text::new(title, (24, 16), heading(27.0)))?;
    legend(&root, 66)?;
    let exponents = exponents(outcomes);
    axis(&root, exponents, end)?;
    for (row, outcome) in (0..).zip(outcomes) {
        plan(&root, exponents, outcome, TOP + row * ROW + ROW / 2)?;
    }
    root.present()?;
    Ok(())
}

/// The powers of ten on the axis.
fn exponents(outcomes: &[Outcome]) -> u32 {
    let runs = outcomes.iter().flat_map(|outcome| &outcome.runs);
    let most = runs.map(|run| run.tally.most_logins_in_a_minute).max().unwrap_or(0);
    most.max(11).ilog10() + 1
}

/// The position of a number of logins on the axis.
#[expect(clippy::cast_possible_truncation, reason = "it is within the chart")]
fn x(logins: f64, exponents: u32) -> i32 {
    LEFT + (f64::from(RIGHT - LEFT) * logins.log10() / f64::from(exponents)).round() as i32
}

fn axis(area: &Area, exponents: u32, end: i32) -> Drawn {
    let limit_x = x(LOGIN_LIMIT, exponents);
    area.draw(&Rectangle::new([(limit_x, TOP), (RIGHT, end)], LIMIT.mix(0.05).filled()))?;
    let below = text(15.0, FAINT).pos(Pos::new(HPos::Center, VPos::Top));
    for exponent in 0..=exponents {
        let x = x(10_f64.powi(exponent.cast_signed()), exponents);
        area.draw(&PathElement::new([(x, TOP), (x, end)], GRID.stroke_width(1)))?;
        area.draw(&Text::new(power_of_ten(f64::from(exponent)), (x, end + 8), below.clone()))?;
    }
    for y in (TOP - 6..end).step_by(9) {
        area.draw(&PathElement::new([(limit_x, y), (limit_x, (y + 5).min(end))], LIMIT.stroke_width(2)))?;
    }
    let unit = "logins within 60 s, on a logarithmic scale";
    area.draw(&Text::new(unit, (i32::midpoint(LEFT, RIGHT), end + 34), below))?;
    Ok(())
}

fn plan(area: &Area, exponents: u32, outcome: &Outcome, y: i32) -> Drawn {
    let name = text(17.0, INK).pos(Pos::new(HPos::Right, VPos::Center));
    area.draw(&Text::new(capital(&table::words(outcome.plan.name)), (LEFT - 18, y), name))?;
    area.draw(&PathElement::new([(LEFT, y), (RIGHT, y)], GRID.stroke_width(1)))?;
    // Each strategy has its own lane, so that no dot hides another.
    for (lane, run) in (0..).zip(&outcome.runs) {
        let y = y - 7 + 5 * lane;
        let logins = u32::try_from(run.tally.most_logins_in_a_minute)?;
        let radius = if run.strategy == Strategy::Broker { 5 } else { 4 };
        let at = (x(f64::from(logins.max(1)), exponents), y);
        area.draw(&Circle::new(at, radius + 1, PAPER.filled()))?;
        area.draw(&Circle::new(at, radius, color(run.strategy).filled()))?;
    }
    Ok(())
}
