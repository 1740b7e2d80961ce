//! Charts: one for each plan, in four panels, and one for all plans.

mod overview;
mod panels;

pub(crate) use overview::overview;

use crate::{outcome::Outcome, table};
use plotters::{coord::Shift, prelude::*};
use std::{error::Error, path::Path};
use token_broker_simulation::Strategy;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// Legible on a light page and on a dark one.
const PAPER: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(36, 41, 47);
const FAINT: RGBColor = RGBColor(110, 119, 129);
const GRID: RGBColor = RGBColor(234, 238, 242);
const LIMIT: RGBColor = RGBColor(200, 20, 30);
/// Logins that the upstream accepts in a minute.
const LOGIN_LIMIT: f64 = 10.0;

const SIZE: (u32, u32) = (1_100, 820);
const HEAD: i32 = 112;

/// The palette of Okabe and Ito, for colour-blind readers.
fn color(strategy: Strategy) -> RGBColor {
    match strategy {
        Strategy::NoSharing => RGBColor(213, 94, 0),
        Strategy::SharedCache => RGBColor(204, 121, 167),
        Strategy::LockWithoutFence => RGBColor(0, 114, 178),
        Strategy::Broker => RGBColor(0, 140, 100),
    }
}

fn text(size: f64, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

/// Draws the chart of one plan.
pub(crate) fn plan(outcome: &Outcome, folder: &Path) -> Drawn {
    let path = folder.join(format!("{}.svg", outcome.plan.name));
    let root = SVGBackend::new(&path, SIZE).into_drawing_area();
    root.fill(&PAPER)?;
    let (name, about) = table::title(outcome)
        .split_once(": ")
        .map(|(name, about)| (capital(name), about.to_owned()))
        .unwrap_or_default();
    root.draw(&Text::new(name, (24, 16), heading(27.0)))?;
    root.draw(&Text::new(about, (24, 48), text(17.0, FAINT)))?;
    legend(&root, 90)?;
    let (_, below) = root.split_vertically(HEAD);
    let [first, second, third, fourth] =
        <[Area; 4]>::try_from(below.split_evenly((2, 2))).map_err(|_| "the chart has four panels")?;
    panels::logins(&first, outcome)?;
    panels::waits(&second, outcome)?;
    panels::ages(&third, outcome)?;
    panels::store(&fourth, outcome)?;
    root.present()?;
    Ok(())
}

/// Draws the legend in one row.
fn legend(area: &Area, y: i32) -> Drawn {
    let mut x = 24;
    for strategy in Strategy::BASELINES.into_iter().chain([Strategy::Broker]) {
        area.draw(&Circle::new((x + 6, y), 6, color(strategy).filled()))?;
        area.draw(&Text::new(strategy.name(), (x + 19, y - 8), text(17.0, INK)))?;
        x += 48 + 7 * i32::try_from(strategy.name().len())?;
    }
    for dash in 0..3 {
        let from = x + 10 * dash;
        area.draw(&PathElement::new([(from, y), (from + 6, y)], LIMIT.stroke_width(2)))?;
    }
    area.draw(&Text::new("the upstream's limit of logins", (x + 36, y - 8), text(17.0, INK)))?;
    Ok(())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn heading(size: f64) -> TextStyle<'static> {
    ("sans-serif", size, FontStyle::Bold).into_font().color(&INK)
}

/// The label of an exponent on a logarithmic axis. Empty between powers of ten.
fn power_of_ten(exponent: f64) -> String {
    if (exponent - exponent.round()).abs() > 0.01 {
        return String::new();
    }
    let number = 10_f64.powf(exponent.round());
    if exponent < 0.0 {
        return format!("{number}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a small whole number")]
    table::thousands(number.round() as u64)
}
